"""The paho client library against the broker, in every version it speaks."""

import time
import unittest

from broker import HOST, IS_MOSQUITTO, PATIENCE, BrokerTest, only_midge, story, story_of_v5
from paho_client import V31, V311, V5, VERSIONS, Client

NO_MATCHING_SUBSCRIBERS = 0x10
NOT_AUTHORIZED = 0x87
SESSION_TAKEN_OVER = 0x8E
SERVER_SHUTTING_DOWN = 0x8B
PACKET_TOO_LARGE = 0x95


def payloads(messages):
    return [message.payload for message in messages]


class PahoTest(BrokerTest):
    client_name = "paho-mqtt"
    versions = VERSIONS

    def client(self, client_id="", version=V5, connect=None, **options):
        """A connected client."""
        client = Client(self, client_id, version, **options)
        self.assertEqual(client.connect(**(connect or {})).reason, 0)
        return client


def lasting(version):
    """What keeps a session when its connection ends, besides that it is not clean."""
    return {"SessionExpiryInterval": 60} if version == V5 else {}


class PublishAndSubscribe(PahoTest):
    @story("qos_0", "qos_1", "qos_2")
    def test_messages_from_every_version_arrive_at_the_lower_qos(self, version):
        publishers = {name: self.client(version=each) for name, each in VERSIONS.items()}
        for subscribed in (0, 1, 2):
            subscriber = self.client(version=version)
            self.assertEqual(subscriber.subscribe("t", subscribed), subscribed)
            for name, publisher in publishers.items():
                for published in (0, 1, 2):
                    with self.subTest(f"{name} QoS {published} to QoS {subscribed}"):
                        payload = bytes(range(256))
                        publisher.publish("t", payload, published)
                        publisher.publish("t", b"end", published)
                        message, end = subscriber.message(), subscriber.message()
                        self.assertEqual((message.payload, end.payload), (payload, b"end"))
                        self.assertEqual(message.qos, min(published, subscribed))
                        self.assertFalse(message.retain or message.dup)
            subscriber.disconnect()

    @story("retained")
    def test_a_retained_message_is_kept_for_later_subscribers_until_cleared(self, version):
        publisher, early, late = (self.client(version=version) for _ in range(3))
        publisher.publish("lamp", b"on", retain=True)
        early.subscribe("lamp", 1)
        message = early.message()
        self.assertEqual((message.payload, message.retain), (b"on", True))

        publisher.publish("lamp", b"", retain=True)
        self.assertFalse(early.message().retain, "it was not kept for this one")
        late.subscribe("lamp", 1)
        publisher.publish("lamp", b"end")
        self.assertEqual(late.messages_until(b"end"), [])

    def test_wildcards_match_whole_levels(self):
        topics = ["a", "a/b", "a/b/c", "a//c", "/a", "ab", "A/b"]
        matches = {
            "#": topics,
            "a/#": ["a", "a/b", "a/b/c", "a//c"],
            "a/+": ["a/b"],
            "+": ["a", "ab"],
            "+/b": ["a/b", "A/b"],
            "a/+/c": ["a/b/c", "a//c"],
            "/+": ["/a"],
            "+/+": ["a/b", "/a", "A/b"],
            "a/b": ["a/b"],
        }
        for name, version in VERSIONS.items():
            with self.subTest(name):
                publisher = self.client(version=version)
                for topic_filter, expected in matches.items():
                    subscriber = self.client(version=version)
                    subscriber.subscribe(topic_filter)
                    subscriber.subscribe("end")
                    for topic in topics:
                        publisher.publish(topic)
                    publisher.publish("end", b"end")
                    received = [message.topic for message in subscriber.messages_until(b"end")]
                    self.assertEqual(received, expected, topic_filter)
                    subscriber.disconnect()

    def test_unsubscribing_stops_delivery(self):
        for name, version in VERSIONS.items():
            with self.subTest(name):
                client = self.client(version=version)
                client.subscribe("stopped")
                client.subscribe("kept")
                client.publish("stopped", b"1")
                client.unsubscribe("stopped")
                client.publish("stopped", b"2")
                client.publish("kept", b"end")
                self.assertEqual(payloads(client.messages_until(b"end")), [b"1"])

    @story_of_v5("properties")
    def test_properties_are_forwarded_unaltered_and_in_order(self):
        subscriber, publisher = self.client(), self.client()
        subscriber.subscribe("t", 1)
        sent = {
            "PayloadFormatIndicator": 1,
            "ContentType": "text/plain; charset=utf-8",
            "ResponseTopic": "answers/ä",
            "CorrelationData": bytes(range(256)),
            "UserProperty": [("b", "1"), ("a", "2"), ("b", "1"), ("", "")],
        }
        publisher.publish("t", "grüezi", **sent)
        message = subscriber.message()
        self.assertEqual(message.payload.decode(), "grüezi")
        for name, value in sent.items():
            with self.subTest(name):
                self.assertEqual(getattr(message.properties, name), value)
        self.assertFalse(hasattr(message.properties, "MessageExpiryInterval"))

    @story_of_v5("topic_alias")
    def test_a_topic_alias_stands_for_its_topic(self):
        subscriber = self.client()
        subscriber.subscribe("#", 1)
        publisher = Client(self)
        self.assertGreaterEqual(publisher.connect().properties.TopicAliasMaximum, 2)
        publisher.publish("long/topic", b"1", TopicAlias=1)
        publisher.publish("other/topic", b"2", TopicAlias=2)
        publisher.publish("", b"3", TopicAlias=1)
        publisher.publish("new/topic", b"4", TopicAlias=1)
        publisher.publish("", b"5", TopicAlias=1)
        received = [subscriber.message() for _ in range(5)]
        self.assertEqual(payloads(received), [b"1", b"2", b"3", b"4", b"5"])
        topics = ["long/topic", "other/topic", "long/topic", "new/topic", "new/topic"]
        self.assertEqual([message.topic for message in received], topics)


    @story_of_v5("request_response")
    def test_an_answer_finds_its_request(self):
        asking, answering = self.client(), self.client()
        asking.subscribe("answers", 1)
        answering.subscribe("service", 1)
        asking.publish("service", b"ping", ResponseTopic="answers", CorrelationData=b"7")
        request = answering.message().properties
        answering.publish(
            request.ResponseTopic, b"pong", CorrelationData=request.CorrelationData
        )
        answer = asking.message()
        self.assertEqual((answer.payload, answer.properties.CorrelationData), (b"pong", b"7"))

    @story_of_v5("shared_subscription")
    def test_a_shared_subscription_gives_each_message_to_one_member(self):
        members = [self.client(), self.client()]
        for member in members:
            member.subscribe("$share/g/t", 1)
            member.subscribe("all", 1)
        publisher = self.client()
        numbers = [b"%d" % number for number in range(10, 30)]
        for number in numbers:
            publisher.publish("t", number)
        publisher.publish("all", b"end")
        shares = [payloads(member.messages_until(b"end")) for member in members]
        self.assertTrue(all(shares), shares)
        self.assertEqual(sorted(shares[0] + shares[1]), numbers)

    @only_midge
    @story_of_v5("reason_codes")
    def test_an_acknowledgement_says_whether_there_was_a_subscriber(self):
        client = self.client()
        client.publish("t")
        client.subscribe("t", 1)
        client.publish("t")
        reasons = [client.pubacks.get(timeout=PATIENCE) for _ in range(2)]
        self.assertEqual(reasons, [NO_MATCHING_SUBSCRIBERS, 0])


class SubscriptionOptions(PahoTest):
    @story_of_v5("subscription_options")
    def test_no_local_spares_the_publisher_its_own_messages(self):
        client, other = self.client(), self.client()
        client.subscribe("t", noLocal=True)
        client.publish("t", b"own")
        other.publish("t", b"end")
        self.assertEqual(client.messages_until(b"end"), [])

    @story_of_v5("subscription_options")
    def test_retain_as_published_keeps_the_retain_flag(self):
        plain, as_published, publisher = self.client(), self.client(), self.client()
        plain.subscribe("t")
        as_published.subscribe("t", retainAsPublished=True)
        publisher.publish("t", b"x", retain=True)
        publisher.publish("t", b"x", retain=False)
        self.assertEqual([plain.message().retain for _ in range(2)], [False, False])
        self.assertEqual([as_published.message().retain for _ in range(2)], [True, False])

    @story_of_v5("subscription_options")
    def test_retain_handling_decides_which_subscribe_brings_retained_messages(self):
        publisher = self.client()
        publisher.publish("t", b"retained", retain=True)
        always, if_new, never = 0, 1, 2
        brings = {always: [b"retained", b"retained"], if_new: [b"retained"], never: []}
        for handling, expected in brings.items():
            with self.subTest(handling=handling):
                client = self.client()
                client.subscribe("t", retainHandling=handling)
                client.subscribe("t", retainHandling=handling)
                client.subscribe("end")
                publisher.publish("end", b"end")
                received = client.messages_until(b"end")
                self.assertEqual(payloads(received), expected)
                self.assertTrue(all(message.retain for message in received))

    @story_of_v5("subscription_identifier")
    def test_a_message_names_every_subscription_it_matches(self):
        client = self.client()
        client.subscribe("a/+", identifier=7)
        client.subscribe("a/#", identifier=268_435_455)
        client.subscribe("#")
        client.publish("a", b"one filter with an identifier")
        client.publish("a/b", b"two of them")
        client.publish("b", b"none")
        client.publish("end", b"end")
        identifiers = {}
        for message in client.messages_until(b"end"):
            # A broker may send one copy for each filter, each with that filter's identifier.
            ids = getattr(message.properties, "SubscriptionIdentifier", [])
            identifiers.setdefault(message.topic, []).extend(ids)
        self.assertEqual(sorted(identifiers["a"]), [268_435_455])
        self.assertEqual(sorted(identifiers["a/b"]), [7, 268_435_455])
        self.assertEqual(identifiers["b"], [])

    @only_midge
    def test_overlapping_subscriptions_bring_one_copy_at_their_highest_qos(self):
        client = self.client()
        client.subscribe("a/+", 0)
        client.subscribe("a/#", 2)
        client.subscribe("a/b", 1)
        client.publish("a/b", b"once", qos=2)
        client.publish("a/b", b"end", qos=2)
        (message,) = client.messages_until(b"end")
        self.assertEqual((message.payload, message.qos), (b"once", 2))


class Sessions(PahoTest):
    @story("connect")
    def test_a_session_is_present_if_it_was_kept(self, version):
        for clean, present in [(False, False), (False, True), (True, False)]:
            client = Client(self, "a", version, clean)
            connack = client.connect(**lasting(version))
            # In version 3.1 there is no such flag.
            self.assertEqual(connack.session_present, present and version != V31)
            client.disconnect()

    @story("offline_queue")
    def test_messages_wait_for_an_offline_client_in_order(self, version):
        def come():
            return self.client("durable", version, clean=False, connect=lasting(version))

        client = come()
        client.subscribe("t", 2)
        client.disconnect()
        publisher = self.client(version=version)
        numbers = [b"%d" % number for number in range(100)]
        for number in numbers:
            publisher.publish("t", number, qos=1 + int(number) % 2)

        client = come()
        publisher.publish("t", b"end", qos=2)
        received = client.messages_until(b"end")
        # paho hands a message of QoS 2 on when it is released, others at once.
        for qos in (1, 2):
            in_order = [message.payload for message in received if message.qos == qos]
            self.assertEqual(in_order, [number for number in numbers if 1 + int(number) % 2 == qos])
        client.subscribe("acknowledged", 0)  # the broker has all that was said before
        client.disconnect()

        client = come()
        publisher.publish("t", b"end", qos=2)
        self.assertEqual(client.messages_until(b"end"), [], "delivered twice")

    @story("reconnect")
    def test_a_client_comes_back_to_its_session_when_its_connection_is_cut(self, version):
        other = self.client("other", version)
        other.subscribe("to/other", 1)
        client = self.client(
            "durable", version, clean=False, connect=lasting(version), reconnects=True
        )
        client.subscribe("to/client", 2)
        client.cut()
        other.publish("to/client", b"while away", qos=2)
        client.paho.publish("to/other", b"from afar", qos=2)
        back = client.connacks.get(timeout=PATIENCE)
        self.assertEqual(back.session_present, version != V31)
        self.assertEqual(client.message().payload, b"while away")
        self.assertEqual(other.message().payload, b"from afar")

    @story("restart")
    def test_a_client_comes_back_when_the_broker_does(self, version):
        client = self.client("durable", version, reconnects=True)
        self.assertEqual(self.broker.terminate(), 0)
        client.disconnects.get(timeout=PATIENCE)
        self.broker.start()
        self.assertFalse(client.connacks.get(timeout=PATIENCE).session_present)
        client.subscribe("t", 1)
        client.publish("t", b"as before")
        self.assertEqual(client.message().payload, b"as before")

    @story_of_v5("session_expiry")
    def test_a_session_without_expiry_ends_with_its_connection(self):
        first = self.client("brief", connect={"SessionExpiryInterval": 0})
        first.subscribe("t", 1)
        first.disconnect()
        second = Client(self, "brief", clean=False)
        self.assertFalse(second.connect().session_present)

    @story_of_v5("session_expiry")
    def test_a_session_ends_when_its_expiry_has_passed(self):
        # A session that ends publishes its will, however long the will's delay: it tells the time.
        observer = self.client()
        observer.subscribe("wills", 1)
        mortal = self.client(
            "mortal", will=("wills", b"ended", 60), connect={"SessionExpiryInterval": 1}
        )
        mortal.subscribe("t", 1)
        mortal.drop()
        self.assertEqual(observer.message().payload, b"ended")
        self.assertFalse(Client(self, "mortal", clean=False).connect().session_present)

    @story_of_v5("session_expiry")
    def test_disconnect_can_change_the_expiry(self):
        client = self.client("changing", connect={"SessionExpiryInterval": 60})
        client.disconnect(SessionExpiryInterval=0)
        self.assertFalse(Client(self, "changing", clean=False).connect().session_present)

    @story("takeover")
    def test_a_second_connection_takes_the_session_over(self, version):
        old = self.client("twin", version, clean=False, connect=lasting(version))
        old.subscribe("t")
        new = self.client("twin", version, clean=False, connect=lasting(version))
        reason = old.disconnects.get(timeout=PATIENCE)
        if version == V5:
            self.assertEqual(reason, SESSION_TAKEN_OVER)
        new.publish("t", b"the new one is alive")
        self.assertEqual(new.message().payload, b"the new one is alive")

    def test_a_client_without_an_id_is_given_one(self):
        client = Client(self)
        assigned = client.connect().properties.AssignedClientIdentifier
        self.assertNotEqual(assigned, "")
        other = Client(self).connect().properties.AssignedClientIdentifier
        self.assertNotEqual(assigned, other)

    @story_of_v5("message_expiry")
    def test_an_expiring_message_counts_down_and_is_gone_in_the_end(self):
        durable = self.client("late", connect={"SessionExpiryInterval": 60})
        durable.subscribe("t", 1)
        durable.disconnect()
        publisher = self.client()
        publisher.publish("t", b"short-lived", MessageExpiryInterval=1)
        publisher.publish("t", b"long-lived", MessageExpiryInterval=100)
        time.sleep(2.1)  # only time itself lets a message expire

        durable = self.client("late", clean=False)
        publisher.publish("t", b"end")
        (message,) = durable.messages_until(b"end")
        self.assertEqual(message.payload, b"long-lived")
        self.assertIn(message.properties.MessageExpiryInterval, range(80, 99))


class Wills(PahoTest):
    DELAY = 1
    EARLY = 1 if IS_MOSQUITTO else 0  # mosquitto counts in whole seconds of the clock

    @story("will")
    def test_the_will_of_a_lost_client_is_published_and_of_one_that_leaves_is_not(self, version):
        heir = self.client(version=version)
        heir.subscribe("wills", 1)
        self.client("leaving", version, will=("wills", b"left")).disconnect()
        self.client("mortal", version, will=("wills", b"died")).drop()
        self.assertEqual(heir.message().payload, b"died")
        heir.publish("wills", b"end")
        self.assertEqual(heir.messages_until(b"end"), [])

    @story_of_v5("will_delay")
    def test_a_delayed_will_waits_for_its_delay(self):
        observer = self.client()
        observer.subscribe("wills", 1)
        client = self.client(
            "patient", will=("wills", b"died", self.DELAY), connect={"SessionExpiryInterval": 60}
        )
        dropped = time.monotonic()
        client.drop()
        self.assertEqual(observer.message().payload, b"died")
        self.assertGreaterEqual(time.monotonic() - dropped, self.DELAY - self.EARLY)

    @story_of_v5("will_delay")
    def test_a_client_that_comes_back_in_time_has_no_will_published(self):
        observer = self.client()
        observer.subscribe("wills", 1)
        kept = {"SessionExpiryInterval": 60}
        first = self.client("returning", will=("wills", b"died", self.DELAY), connect=kept)
        first.drop()
        self.client("returning", clean=False, connect=kept)
        # Another client that is dropped later shows when the first will would have been due.
        self.client("gone", will=("wills", b"end", self.DELAY), connect=kept).drop()
        self.assertEqual(observer.messages_until(b"end"), [])


class FlowControl(PahoTest):
    @story_of_v5("receive_maximum")
    def test_no_more_messages_are_in_flight_than_the_client_can_receive(self):
        subscriber = self.client(manual_ack=True, connect={"ReceiveMaximum": 3})
        subscriber.subscribe("t", 1)
        publisher = self.client()
        for number in range(5):
            publisher.publish("t", b"%d" % number)
        in_flight = [subscriber.message() for _ in range(3)]
        # The broker's answer comes after all that it had to send before.
        subscriber.subscribe("another", 1)
        self.assertTrue(subscriber.messages.empty())

        for message in in_flight[:2]:
            subscriber.paho.ack(message.mid, message.qos)
        in_flight += [subscriber.message() for _ in range(2)]
        self.assertEqual(payloads(in_flight), [b"0", b"1", b"2", b"3", b"4"])

    def test_a_client_is_spared_packets_larger_than_it_accepts(self):
        subscriber = self.client(connect={"MaximumPacketSize": 100})
        subscriber.subscribe("t", 1)
        publisher = self.client()
        publisher.publish("t", b"x" * 200)
        publisher.publish("t", b"end")
        self.assertEqual(subscriber.messages_until(b"end"), [])


class MaximumPacketSize(PahoTest):
    options = {"max_packet_size": 1000}

    def test_a_larger_packet_ends_the_connection(self):
        observer = self.client()
        observer.subscribe("t")
        for name, version in VERSIONS.items():
            with self.subTest(name):
                client = Client(self, version=version)
                connack = client.connect()
                client.publish("t", b"x" * 900)
                client.paho.publish("t", b"x" * 1001, qos=1)
                reason = client.disconnects.get(timeout=PATIENCE)
                if version == V5:
                    self.assertEqual(connack.properties.MaximumPacketSize, 1000)
                    self.assertEqual(reason, PACKET_TOO_LARGE)
        self.client().publish("t", b"end")
        self.assertEqual(
            [len(payload) for payload in payloads(observer.messages_until(b"end"))], [900] * len(VERSIONS)
        )


class Refusal(PahoTest):
    options = {"listener": f"PORT {HOST}"}

    @story("refused")
    def test_anonymous_clients_are_not_authorized(self, version):
        # paho translates the return code 5 of the older versions to the reason code of version 5.
        self.assertEqual(Client(self, "stranger", version).connect().reason, NOT_AUTHORIZED)


class Permission(PahoTest):
    options = {"listener": f"PORT {HOST}", "allow_anonymous": "true"}

    def test_anonymous_clients_can_be_allowed(self):
        for name, version in VERSIONS.items():
            with self.subTest(name):
                self.assertEqual(Client(self, "guest", version).connect().reason, 0)


class BestQos(PahoTest):
    options = {"max_qos": 1}

    @story_of_v5("reason_codes")
    def test_a_lower_qos_than_asked_for_is_granted(self):
        self.assertEqual(self.client().subscribe("t", 2), 1)


class Shutdown(PahoTest):
    @only_midge
    @story_of_v5("reason_codes")
    def test_clients_are_told_that_the_broker_stops(self):
        client = self.client()
        older = self.client(version=V311)
        self.assertEqual(self.broker.terminate(), 0)
        self.assertEqual(client.disconnects.get(timeout=PATIENCE), SERVER_SHUTTING_DOWN)
        older.disconnects.get(timeout=PATIENCE)


if __name__ == "__main__":
    unittest.main()
