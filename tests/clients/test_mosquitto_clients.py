"""Mosquitto's own command-line clients against the broker."""

import os
import subprocess
import threading
import time
import unittest
from queue import Queue

from broker import HOST, IS_MOSQUITTO, PATIENCE, BrokerTest, only_midge, story, story_of_v5
from line import Line
import paho_client

V31, V311, V5 = "mqttv31", "mqttv311", "mqttv5"
VERSIONS = [V31, V311, V5]
QOS_LEVELS = [0, 1, 2]


class Subscriber:
    """mosquitto_sub in the background, subscribed once it is constructed.

    With -d it also says what it does, in lines that start unlike any message of these tests.
    """

    REMARKS = ("Client ", "Subscribed (mid: ", "Received DISCONNECT ")

    def __init__(self, test, *arguments, port=None):
        self.remarks = Queue()
        self.lines = Queue()
        port = str(port or test.broker.port)
        # Without stdbuf a pipe would show nothing before the first message.
        command = ["stdbuf", "-oL", "mosquitto_sub", "-d", "-h", HOST, "-p", port]
        self.process = subprocess.Popen(
            [*command, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self.reader = threading.Thread(target=self.read)
        self.reader.start()
        test.addCleanup(self.kill)
        self.connack = self.says("received CONNACK ").split()[-1]
        self.granted = self.says("Subscribed (mid: ")

    def read(self):
        for line in self.process.stdout:
            line = line.decode().rstrip("\n")
            is_remark = line.startswith(self.REMARKS)
            (self.remarks if is_remark else self.lines).put(line)

    def says(self, part):
        """Its next remark with this in it."""
        while part not in (remark := self.remarks.get(timeout=PATIENCE)):
            pass
        return remark

    def line(self):
        return self.lines.get(timeout=PATIENCE)

    def lines_until(self, sentinel):
        """All messages before this one, which a test publishes as the last."""
        return list(iter(self.line, sentinel))

    def disconnect(self):
        """Lets it say goodbye to the broker and exit."""
        self.process.terminate()
        self.process.wait(PATIENCE)

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.reader.join()
        self.process.stdout.close()


class MosquittoTest(BrokerTest):
    client_name = "mosquitto"
    versions = {"3.1": V31, "3.1.1": V311, "5.0": V5}

    def run_client(self, program, *arguments, **options):
        command = [program, "-h", HOST, "-p", str(self.broker.port), *arguments]
        return subprocess.run(command, capture_output=True, timeout=PATIENCE, **options)

    def publish(self, *arguments, **options):
        result = self.run_client("mosquitto_pub", *arguments, **options)
        self.assertEqual((result.returncode, result.stderr), (0, b""))

    def subscribe_and_leave(self, *arguments):
        """Leaves a session behind that holds the subscription."""
        self.assertEqual(self.run_client("mosquitto_sub", "-E", *arguments).returncode, 0)


def durable(version):
    return ["-V", version, "-c", *(["-x", "60"] if version == V5 else [])]


class Connections(MosquittoTest):
    @story("connect")
    def test_a_session_is_present_if_it_was_kept(self, version):
        clean = ["-V", version]
        for flags, queued in [
            (durable(version), []),
            (durable(version), ["missed"]),  # which shows that the session was present
            (clean, []),
        ]:
            client = Subscriber(self, *flags, "-i", "a", "-q", "1", "-t", "t")
            self.assertEqual(client.connack, "(0)")
            self.publish("-q", "1", "-t", "t", "-m", "end")
            self.assertEqual(client.lines_until("end"), queued)
            client.disconnect()
            self.publish("-q", "1", "-t", "t", "-m", "missed")

    @story("reconnect")
    def test_a_client_comes_back_to_its_session_when_its_connection_is_cut(self, version):
        line = Line(self)
        session = [*durable(version), "-i", "durable", "-q", "2", "-t", "t"]
        client = Subscriber(self, *session, port=line.port)
        line.cut()
        self.publish("-q", "2", "-t", "t", "-m", "while away")
        client.says("Subscribed (mid: ")
        self.publish("-q", "2", "-t", "t", "-m", "end")
        self.assertEqual(client.lines_until("end"), ["while away"])

    @story("restart")
    def test_a_client_comes_back_when_the_broker_does(self, version):
        client = Subscriber(self, "-V", version, "-q", "1", "-t", "t")
        self.broker.crash()  # told in version 5 that the broker stops, mosquitto_sub would end
        self.broker.start()
        client.says("Subscribed (mid: ")
        self.publish("-q", "1", "-t", "t", "-m", "as before")
        self.assertEqual(client.line(), "as before")

    @story("takeover")
    def test_a_second_connection_takes_the_session_over(self, version):
        session = [*durable(version), "-i", "twin", "-q", "1"]
        old = Subscriber(self, *session, "-t", "old")
        new = Subscriber(self, *session, "-t", "new")
        if version == V5:
            old.says("Received DISCONNECT (142)")  # and it ends
            heir = new
        else:
            old.says("Subscribed (mid: ")  # it does not know why, and takes its session back
            new.kill()
            heir = old
        for topic in ("old", "new"):
            self.publish("-q", "1", "-t", topic, "-m", f"to the {topic} one")
            self.assertEqual(heir.line(), f"to the {topic} one")


class Messages(MosquittoTest):
    options = {"max_queued_messages": 0}

    @story("qos_0", "qos_1", "qos_2")
    def test_every_version_and_qos_reaches_this_one(self, version):
        subscribers = {
            qos: Subscriber(self, "-V", version, "-q", str(qos), "-t", "#", "-F", "%t %q %p")
            for qos in QOS_LEVELS
        }
        for publisher in VERSIONS:
            for qos in QOS_LEVELS:
                payload = f"from {publisher} at QoS {qos}: ä, 漢 and  two  blanks"
                self.publish("-V", publisher, "-q", str(qos), "-t", "a/b c", "-m", payload)
                for subscribed, subscriber in subscribers.items():
                    with self.subTest(payload, at_qos=subscribed):
                        expected = f"a/b c {min(qos, subscribed)} {payload}"
                        self.assertEqual(subscriber.line(), expected)

    def test_a_megabyte_arrives_unaltered_at_every_qos(self):
        payload = os.urandom(1_000_000)
        for qos in QOS_LEVELS:
            with self.subTest(qos=qos):
                subscriber = Subscriber(self, "-q", str(qos), "-t", "big", "-F", "%x")
                self.publish("-q", str(qos), "-t", "big", "-s", input=payload)
                self.assertTrue(subscriber.line() == payload.hex(), "payload differs")
                subscriber.disconnect()

    def test_five_thousand_lines_arrive_once_and_in_order_at_every_qos(self):
        lines = [str(number) for number in range(5000)]
        for qos in QOS_LEVELS:
            with self.subTest(qos=qos):
                subscriber = Subscriber(self, "-q", str(qos), "-t", "many")
                self.publish("-q", str(qos), "-t", "many", "-l", input="\n".join(lines).encode())
                self.publish("-q", str(qos), "-t", "many", "-m", "end")
                self.assertEqual(subscriber.lines_until("end"), lines)
                subscriber.disconnect()

    @story_of_v5("shared_subscription")
    def test_a_shared_subscription_gives_each_message_to_one_member(self):
        members = [
            Subscriber(self, "-V", "mqttv5", "-q", "1", "-t", "$share/g/t", "-t", "all")
            for _ in range(2)
        ]
        numbers = [str(number) for number in range(100)]
        self.publish("-q", "1", "-t", "t", "-l", input="\n".join(numbers).encode())
        self.publish("-q", "1", "-t", "all", "-m", "end")
        shares = [member.lines_until("end") for member in members]
        self.assertEqual(sorted(shares[0] + shares[1], key=int), numbers)
        for share in shares:
            self.assertNotEqual(share, [])


class Retained(MosquittoTest):
    FORMAT = ("-F", "%r %t %p")

    @story("retained")
    def test_a_retained_message_is_kept_for_later_subscribers_until_cleared(self, version):
        early = Subscriber(self, "-V", version, "-t", "lamp", *self.FORMAT)
        self.publish("-V", version, "-t", "lamp", "-m", "off", "-r")
        self.publish("-V", version, "-t", "lamp", "-m", "on", "-r")
        self.publish("-V", version, "-t", "lamp", "-m", "blinking")
        self.assertEqual(
            [early.line() for _ in range(3)], ["0 lamp off", "0 lamp on", "0 lamp blinking"]
        )
        late = Subscriber(self, "-V", version, "-t", "#", *self.FORMAT)
        self.assertEqual(late.line(), "1 lamp on")
        self.publish("-V", version, "-t", "lamp", "-r", "-n")
        last = Subscriber(self, "-V", version, "-t", "lamp", *self.FORMAT)
        self.publish("-V", version, "-t", "lamp", "-m", "end")
        self.assertEqual(last.line(), "0 lamp end")

    def test_a_client_can_ignore_retained_messages(self):
        self.publish("-t", "lamp", "-m", "on", "-r")
        subscriber = Subscriber(self, "-R", "-t", "lamp", *self.FORMAT)
        self.publish("-t", "lamp", "-m", "off")
        self.assertEqual(subscriber.line(), "0 lamp off")


class Wills(MosquittoTest):
    WILL = ("-t", "x", "--will-topic", "wills", "--will-payload", "died", "--will-qos", "1")
    DELAYED = (
        *("-V", V5, "-c", "-x", "60", "-t", "x", "--will-topic", "wills", "--will-qos", "1"),
        *("-D", "will", "will-delay-interval", "1"),
    )

    @story("will")
    def test_the_will_of_a_killed_client_is_published(self, version):
        heir = Subscriber(self, "-V", version, "-q", "1", "-t", "wills")
        Subscriber(self, "-V", version, *self.WILL).kill()
        self.assertEqual(heir.line(), "died")

    def test_a_retained_will_waits_for_its_heir(self):
        heir = Subscriber(self, "-t", "wills")
        Subscriber(self, *self.WILL, "--will-retain").kill()
        self.assertEqual(heir.line(), "died")
        late = Subscriber(self, "-t", "wills", "-F", "%r %p")
        self.assertEqual(late.line(), "1 died")

    @story("will")
    def test_a_client_that_disconnects_leaves_no_will(self, version):
        heir = Subscriber(self, "-V", version, "-q", "1", "-t", "wills")
        client = Subscriber(self, "-V", version, "-C", "1", *self.WILL)
        self.publish("-t", "x", "-m", "one message and it leaves")
        client.process.wait(PATIENCE)
        self.publish("-q", "1", "-t", "wills", "-m", "end")
        self.assertEqual(heir.lines_until("end"), [])

    @story_of_v5("will_delay")
    def test_a_delayed_will_waits_and_is_not_published_if_the_client_comes_back(self):
        heir = Subscriber(self, "-q", "1", "-t", "wills")
        returning = [*self.DELAYED, "-i", "returning", "--will-payload", "not yet"]
        Subscriber(self, *returning).kill()
        Subscriber(self, *returning)
        patient = Subscriber(self, *self.DELAYED, "-i", "patient", "--will-payload", "died")
        killed = time.monotonic()
        patient.kill()
        self.assertEqual(heir.line(), "died")
        self.assertGreaterEqual(time.monotonic() - killed, 0 if IS_MOSQUITTO else 1)

    @story_of_v5("session_expiry")
    def test_a_session_lasts_until_it_expires(self):
        # A session that ends publishes its will, however long the will's delay: it tells the time.
        heir = Subscriber(self, "-q", "1", "-t", "wills")
        delay = ("-D", "will", "will-delay-interval", "60", "--will-qos", "1")
        will = ("--will-topic", "wills", "--will-payload", "ended")
        brief = ["-V", V5, "-c", "-i", "brief", "-q", "1", "-t", "t"]
        Subscriber(self, *brief, "-x", "1", *will, *delay).kill()
        self.publish("-q", "1", "-t", "t", "-m", "in time")
        back = Subscriber(self, *brief, "-x", "1", *will, *delay)
        self.assertEqual(back.line(), "in time")
        back.kill()
        self.assertEqual(heir.line(), "ended")
        self.publish("-q", "1", "-t", "t", "-m", "too late")
        back = Subscriber(self, *brief)
        self.publish("-q", "1", "-t", "t", "-m", "end")
        self.assertEqual(back.lines_until("end"), [])


class OfflineQueue(MosquittoTest):
    options = {"max_queued_messages": 0}

    @story("offline_queue")
    def test_messages_wait_for_an_offline_client_in_order(self, version):
        for qos in (1, 2):
            with self.subTest(qos=qos):
                topic = f"t/{qos}"
                session = [*durable(version), "-i", f"client-{qos}", "-q", "2", "-t", topic]
                self.be_offline_and_come_back(session, topic, qos)

    def be_offline_and_come_back(self, session, topic, qos):
        numbers = [str(number) for number in range(200)]
        publishing = ["-q", str(qos), "-t", topic]
        self.subscribe_and_leave(*session)
        self.publish(*publishing, "-l", input="\n".join(numbers).encode())

        back = Subscriber(self, *session)
        self.publish(*publishing, "-m", "end")
        self.assertEqual(back.lines_until("end"), numbers)
        back.disconnect()

        again = Subscriber(self, *session)
        self.publish(*publishing, "-m", "end")
        self.assertEqual(again.lines_until("end"), [], "delivered twice")
        again.disconnect()

    def test_a_clean_session_forgets_the_queue(self):
        session = ["-i", "forgetful", "-q", "1", "-t", "t"]
        self.subscribe_and_leave("-c", *session)
        self.publish("-q", "1", "-t", "t", "-m", "missed")
        self.subscribe_and_leave(*session)
        back = Subscriber(self, "-c", *session)
        self.publish("-q", "1", "-t", "t", "-m", "end")
        self.assertEqual(back.lines_until("end"), [])


class Properties(MosquittoTest):
    @story_of_v5("properties")
    def test_properties_are_forwarded(self):
        subscriber = Subscriber(self, "-V", V5, "-t", "t", "-F", "%F|%C|%P|%p")
        sent = ["payload-format-indicator 1", "content-type text/plain", "user-property b 1"]
        sent += ["user-property a 2", "user-property b 1"]
        flags = [flag for name in sent for flag in ("-D", "publish", *name.split())]
        self.publish("-V", V5, "-t", "t", "-m", "grüezi", *flags)
        self.assertEqual(subscriber.line(), "1|text/plain|b:1 a:2 b:1|grüezi")

    @story_of_v5("message_expiry")
    def test_an_expiring_message_counts_down_and_is_gone_in_the_end(self):
        session = [*durable(V5), "-i", "late", "-q", "1", "-t", "t"]
        self.subscribe_and_leave(*session)
        for payload, seconds in [("short-lived", "1"), ("long-lived", "100")]:
            expiry = ("-D", "publish", "message-expiry-interval", seconds)
            self.publish("-V", V5, "-q", "1", "-t", "t", "-m", payload, *expiry)
        time.sleep(2.1)  # only time itself lets a message expire
        late = Subscriber(self, *session, "-F", "%p %E")
        payload, seconds = late.line().split()
        self.assertEqual(payload, "long-lived")
        self.assertIn(int(seconds), range(80, 99))

    @story_of_v5("subscription_identifier")
    def test_a_message_names_its_subscription(self):
        identified = ["-D", "subscribe", "subscription-identifier"]
        small = Subscriber(self, "-V", V5, "-t", "t", *identified, "7", "-F", "%S %p")
        large = Subscriber(self, "-V", V5, "-t", "t", *identified, "268435455", "-F", "%S %p")
        self.publish("-t", "t", "-m", "x")
        self.assertEqual((small.line(), large.line()), ("7 x", "268435455 x"))

    @story_of_v5("topic_alias")
    def test_a_topic_alias_stands_for_its_topic(self):
        subscriber = Subscriber(self, "-t", "#", "-v")
        lines = [str(number) for number in range(5)]
        # From its second message on, mosquitto_pub sends the alias alone.
        alias = ("-D", "publish", "topic-alias", "1")
        self.publish("-V", V5, "-t", "long/topic", *alias, "-l", input="\n".join(lines).encode())
        received = [subscriber.line() for _ in lines]
        self.assertEqual(received, [f"long/topic {line}" for line in lines])

    @story_of_v5("subscription_options")
    def test_retain_as_published_keeps_the_retain_flag(self):
        plain = Subscriber(self, "-V", V5, "-t", "t", "-F", "%r")
        as_published = Subscriber(self, "-V", V5, "--retain-as-published", "-t", "t", "-F", "%r")
        self.publish("-t", "t", "-m", "x", "-r")
        self.publish("-t", "t", "-m", "x")
        self.assertEqual([plain.line() for _ in range(2)], ["0", "0"])
        self.assertEqual([as_published.line() for _ in range(2)], ["1", "0"])


class FlowControl(MosquittoTest):
    options = {"receive_maximum": 2}

    @only_midge
    @story_of_v5("receive_maximum")
    def test_neither_side_sends_more_than_the_other_can_receive(self):
        # Whoever did would be disconnected, and the publisher would say so.
        limit = ("-D", "connect", "receive-maximum", "1")
        subscriber = Subscriber(self, "-V", V5, "-q", "2", "-t", "t", *limit)
        lines = [str(number) for number in range(500)]
        publishing = ("-V", V5, "-q", "2", "-t", "t")
        self.publish(*publishing, "-l", input="\n".join(lines).encode())
        self.publish(*publishing, "-m", "end")
        self.assertEqual(subscriber.lines_until("end"), lines)


class ReasonCodes(MosquittoTest):
    options = {"max_qos": 1}

    @story_of_v5("reason_codes")
    def test_the_client_shows_the_reason_codes_it_is_sent(self):
        published = self.run_client("mosquitto_pub", "-d", "-V", V5, "-q", "1", "-t", "t", "-n")
        self.assertRegex(published.stdout, rb"received PUBACK \(Mid: 1, RC:16\)")
        subscriber = Subscriber(self, "-V", V5, "-q", "2", "-t", "t")
        self.assertRegex(subscriber.granted, r": 1$")
        self.assertEqual(self.broker.terminate(), 0)
        subscriber.says("Received DISCONNECT (139)")


class RequestResponse(MosquittoTest):
    @story_of_v5("request_response")
    def test_mosquitto_rr_gets_the_answer_to_its_request(self):
        responder = paho_client.Client(self, "responder", paho_client.V5)
        requests = Queue()

        def answer(_client, _userdata, request):
            requests.put(request)
            responder.paho.publish(
                request.properties.ResponseTopic,
                request.payload.upper(),
                1,
                properties=request.properties,
            )

        responder.paho.on_message = answer
        responder.connect()
        responder.subscribe("service", 1)
        correlation = ("-D", "publish", "correlation-data", "request 7")
        result = self.run_client(
            "mosquitto_rr",
            "-V",
            "mqttv5",
            "-q",
            "1",
            "-t",
            "service",
            "-e",
            "answers",
            "-m",
            "ping",
            *correlation,
            "-F",
            "%p %D",
        )
        request = requests.get(timeout=PATIENCE)
        self.assertEqual(request.properties.ResponseTopic, "answers")
        self.assertEqual(request.properties.CorrelationData, b"request 7")
        self.assertEqual(result.stdout, b"PING request 7\n")


class BrokerTopics(MosquittoTest):
    def test_sys_topics_answer_who_asks_for_them(self):
        version = Subscriber(self, "-t", "$SYS/broker/version").line()
        self.assertRegex(version, r"\d+\.\d+")

    def test_sys_topics_are_not_part_of_the_multi_level_wildcard(self):
        subscriber = Subscriber(self, "-t", "#", "-t", "+/broker/version", "-v")
        self.publish("-t", "end", "-m", "end")
        self.assertEqual(subscriber.lines_until("end end"), [])


class Refusal(MosquittoTest):
    options = {"listener": f"PORT {HOST}"}

    @story("refused")
    def test_an_anonymous_client_fails_and_says_why(self, version):
        result = self.run_client("mosquitto_pub", "-V", version, "-t", "t", "-m", "x")
        self.assertNotEqual(result.returncode, 0)
        self.assertRegex(result.stderr.lower(), b"not authori[sz]ed")

    @only_midge
    def test_the_log_says_who_was_refused_and_why(self):
        for version in VERSIONS:
            self.run_client(
                "mosquitto_pub", "-V", version, "-i", f"stranger-{version}", "-t", "t", "-m", "x"
            )
        self.assertEqual(self.broker.terminate(), 0)
        for version in VERSIONS:
            with self.subTest(version):
                self.assertRegex(
                    self.broker.log(), rf"(?im)^.*stranger-{version}\b.*not authori[sz]ed"
                )


if __name__ == "__main__":
    unittest.main()
