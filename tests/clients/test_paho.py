"""The paho client library against the broker, in both protocol versions it speaks."""

import time
import unittest

from broker import HOST, IS_MOSQUITTO, PATIENCE, BrokerTest, only_midge
from paho_client import V311, V5, VERSIONS, Client

NOT_AUTHORIZED = 0x87
SESSION_TAKEN_OVER = 0x8E
SERVER_SHUTTING_DOWN = 0x8B
PACKET_TOO_LARGE = 0x95


def payloads(messages):
    return [message.payload for message in messages]


class PahoTest(BrokerTest):
    def client(self, client_id="", version=V5, connect=None, **options):
        """A connected client."""
        client = Client(self, client_id, version, **options)
        self.assertEqual(client.connect(**(connect or {})).reason, 0)
        return client


class PublishAndSubscribe(PahoTest):
    def test_messages_pass_between_versions_at_the_lower_qos(self):
        publishers = {name: self.client(version=version) for name, version in VERSIONS.items()}
        for name, version in VERSIONS.items():
            for subscribed in (0, 1, 2):
                subscriber = self.client(version=version)
                self.assertEqual(subscriber.subscribe("t", subscribed), subscribed)
                for publisher_name, publisher in publishers.items():
                    for published in (0, 1, 2):
                        with self.subTest(
                            f"{publisher_name} QoS {published} to {name} QoS {subscribed}"
                        ):
                            payload = bytes(range(256))
                            publisher.publish("t", payload, published)
                            message = subscriber.message()
                            self.assertEqual(message.payload, payload)
                            self.assertEqual(message.qos, min(published, subscribed))
                            self.assertFalse(message.retain or message.dup)
                subscriber.disconnect()

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


class SubscriptionOptions(PahoTest):
    def test_no_local_spares_the_publisher_its_own_messages(self):
        client, other = self.client(), self.client()
        client.subscribe("t", noLocal=True)
        client.publish("t", b"own")
        other.publish("t", b"end")
        self.assertEqual(client.messages_until(b"end"), [])

    def test_retain_as_published_keeps_the_retain_flag(self):
        plain, as_published, publisher = self.client(), self.client(), self.client()
        plain.subscribe("t")
        as_published.subscribe("t", retainAsPublished=True)
        publisher.publish("t", b"x", retain=True)
        publisher.publish("t", b"x", retain=False)
        self.assertEqual([plain.message().retain for _ in range(2)], [False, False])
        self.assertEqual([as_published.message().retain for _ in range(2)], [True, False])

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
    def test_a_kept_session_is_present_with_its_subscriptions_and_messages(self):
        for name, version in VERSIONS.items():
            with self.subTest(name):
                expiry = {"SessionExpiryInterval": 60} if version == V5 else {}
                client_id = f"durable-{version}"
                client = Client(self, client_id, version, clean=False)
                self.assertFalse(client.connect(**expiry).session_present)
                client.subscribe("t", 2)
                client.disconnect()
                publisher = self.client(version=version)
                publisher.publish("t", b"at least once", qos=1)
                publisher.publish("t", b"exactly once", qos=2)

                client = Client(self, client_id, version, clean=False)
                self.assertTrue(client.connect(**expiry).session_present)
                publisher.publish("t", b"end", qos=2)
                received = client.messages_until(b"end")
                self.assertEqual(payloads(received), [b"at least once", b"exactly once"])
                client.disconnect()

                client = Client(self, client_id, version, clean=True)
                self.assertFalse(client.connect().session_present, "a clean start keeps nothing")
                client.disconnect()

    def test_a_session_without_expiry_ends_with_its_connection(self):
        first = self.client("brief", connect={"SessionExpiryInterval": 0})
        first.subscribe("t", 1)
        first.disconnect()
        second = Client(self, "brief", clean=False)
        self.assertFalse(second.connect().session_present)

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

    def test_disconnect_can_change_the_expiry(self):
        client = self.client("changing", connect={"SessionExpiryInterval": 60})
        client.disconnect(SessionExpiryInterval=0)
        self.assertFalse(Client(self, "changing", clean=False).connect().session_present)

    def test_a_second_connection_takes_the_session_over(self):
        for name, version in VERSIONS.items():
            with self.subTest(name):
                client_id = f"twin-{version}"
                old = self.client(client_id, version)
                new = self.client(client_id, version)
                reason = old.disconnects.get(timeout=PATIENCE)
                if version == V5:
                    self.assertEqual(reason, SESSION_TAKEN_OVER)
                new.subscribe("t")
                new.publish("t", b"the new one is alive")
                self.assertEqual(new.message().payload, b"the new one is alive")

    def test_a_client_without_an_id_is_given_one(self):
        client = Client(self)
        assigned = client.connect().properties.AssignedClientIdentifier
        self.assertNotEqual(assigned, "")
        other = Client(self).connect().properties.AssignedClientIdentifier
        self.assertNotEqual(assigned, other)

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
            [len(payload) for payload in payloads(observer.messages_until(b"end"))], [900, 900]
        )


class Refusal(PahoTest):
    options = {"listener": f"PORT {HOST}"}

    def test_anonymous_clients_are_not_authorized(self):
        for name, version in VERSIONS.items():
            with self.subTest(name):
                # paho translates the return code 5 of version 3.1.1 to the reason code of version 5.
                self.assertEqual(Client(self, "stranger", version).connect().reason, NOT_AUTHORIZED)


class Permission(PahoTest):
    options = {"listener": f"PORT {HOST}", "allow_anonymous": "true"}

    def test_anonymous_clients_can_be_allowed(self):
        for name, version in VERSIONS.items():
            with self.subTest(name):
                self.assertEqual(Client(self, "guest", version).connect().reason, 0)


class Shutdown(PahoTest):
    @only_midge
    def test_clients_are_told_that_the_broker_stops(self):
        client = self.client()
        older = self.client(version=V311)
        self.assertEqual(self.broker.terminate(), 0)
        self.assertEqual(client.disconnects.get(timeout=PATIENCE), SERVER_SHUTTING_DOWN)
        older.disconnects.get(timeout=PATIENCE)


if __name__ == "__main__":
    unittest.main()
