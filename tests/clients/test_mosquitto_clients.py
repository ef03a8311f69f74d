"""Mosquitto's own command-line clients against the broker."""

import os
import subprocess
import threading
import unittest
from queue import Queue

from broker import HOST, PATIENCE, BrokerTest, only_midge
from paho_client import V5, Client

VERSIONS = ["mqttv31", "mqttv311", "mqttv5"]
QOS_LEVELS = [0, 1, 2]


class Subscriber:
    """mosquitto_sub in the background, subscribed once it is constructed.

    With -d it also says what it does, in lines that start unlike any message of these tests.
    """

    REMARKS = ("Client ", "Subscribed (mid: ")

    def __init__(self, test, *arguments):
        self.subscribed = threading.Event()
        self.lines = Queue()
        # Without stdbuf a pipe would show nothing before the first message.
        command = ["stdbuf", "-oL", "mosquitto_sub", "-d", "-h", HOST, "-p", str(test.broker.port)]
        self.process = subprocess.Popen(
            [*command, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self.reader = threading.Thread(target=self.read)
        self.reader.start()
        test.addCleanup(self.kill)
        test.assertTrue(self.subscribed.wait(PATIENCE), "no SUBACK for mosquitto_sub")

    def read(self):
        for line in self.process.stdout:
            line = line.decode().rstrip("\n")
            if line.startswith("Subscribed (mid: "):
                self.subscribed.set()
            if not line.startswith(self.REMARKS):
                self.lines.put(line)

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
    def run_client(self, program, *arguments, **options):
        command = [program, "-h", HOST, "-p", str(self.broker.port), *arguments]
        return subprocess.run(command, capture_output=True, timeout=PATIENCE, **options)

    def publish(self, *arguments, **options):
        result = self.run_client("mosquitto_pub", *arguments, **options)
        self.assertEqual((result.returncode, result.stderr), (0, b""))

    def subscribe_and_leave(self, *arguments):
        """Leaves a session behind that holds the subscription."""
        self.assertEqual(self.run_client("mosquitto_sub", "-E", *arguments).returncode, 0)


class Messages(MosquittoTest):
    options = {"max_queued_messages": 0}

    def test_every_version_and_qos_reaches_every_version_and_qos(self):
        subscribers = {
            (version, qos): Subscriber(self, "-V", version, "-q", str(qos), "-t", "#", "-v")
            for version in VERSIONS
            for qos in QOS_LEVELS
        }
        for version in VERSIONS:
            for qos in QOS_LEVELS:
                payload = f"from {version} at QoS {qos}: ä, 漢 and  two  blanks"
                self.publish("-V", version, "-q", str(qos), "-t", "a/b c", "-m", payload)
                for (subscriber_version, subscriber_qos), subscriber in subscribers.items():
                    with self.subTest(payload, to=subscriber_version, at_qos=subscriber_qos):
                        self.assertEqual(subscriber.line(), f"a/b c {payload}")

    def test_the_lower_of_both_qos_levels_is_used(self):
        subscribers = [
            Subscriber(self, "-q", str(qos), "-t", "t", "-F", "%q") for qos in QOS_LEVELS
        ]
        for qos in QOS_LEVELS:
            self.publish("-q", str(qos), "-t", "t", "-m", "x")
            for subscriber_qos, subscriber in enumerate(subscribers):
                with self.subTest(published=qos, subscribed=subscriber_qos):
                    self.assertEqual(subscriber.line(), str(min(qos, subscriber_qos)))

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

    def test_a_retained_message_is_kept_for_later_subscribers(self):
        early = Subscriber(self, "-t", "lamp", *self.FORMAT)
        self.publish("-t", "lamp", "-m", "off", "-r")
        self.publish("-t", "lamp", "-m", "on", "-r")
        self.publish("-t", "lamp", "-m", "blinking")
        self.assertEqual(
            [early.line() for _ in range(3)], ["0 lamp off", "0 lamp on", "0 lamp blinking"]
        )
        for version in VERSIONS:
            with self.subTest(version):
                late = Subscriber(self, "-V", version, "-t", "#", *self.FORMAT)
                self.assertEqual(late.line(), "1 lamp on")

    def test_a_client_can_ignore_retained_messages(self):
        self.publish("-t", "lamp", "-m", "on", "-r")
        subscriber = Subscriber(self, "-R", "-t", "lamp", *self.FORMAT)
        self.publish("-t", "lamp", "-m", "off")
        self.assertEqual(subscriber.line(), "0 lamp off")

    def test_an_empty_retained_message_clears_the_topic(self):
        self.publish("-t", "lamp", "-m", "on", "-r")
        self.publish("-t", "lamp", "-r", "-n")
        late = Subscriber(self, "-t", "lamp", *self.FORMAT)
        self.publish("-t", "lamp", "-m", "end")
        self.assertEqual(late.line(), "0 lamp end")


class Wills(MosquittoTest):
    WILL = ("-t", "x", "--will-topic", "wills", "--will-payload", "died", "--will-qos", "1")

    def test_the_will_of_a_killed_client_is_published(self):
        heir = Subscriber(self, "-q", "1", "-t", "wills")
        for version in VERSIONS:
            with self.subTest(version):
                Subscriber(self, "-V", version, *self.WILL).kill()
                self.assertEqual(heir.line(), "died")

    def test_a_retained_will_waits_for_its_heir(self):
        heir = Subscriber(self, "-t", "wills")
        Subscriber(self, *self.WILL, "--will-retain").kill()
        self.assertEqual(heir.line(), "died")
        late = Subscriber(self, "-t", "wills", "-F", "%r %p")
        self.assertEqual(late.line(), "1 died")

    def test_a_client_that_disconnects_leaves_no_will(self):
        heir = Subscriber(self, "-q", "1", "-t", "wills")
        for version in VERSIONS:
            with self.subTest(version):
                client = Subscriber(self, "-V", version, "-C", "1", *self.WILL)
                self.publish("-t", "x", "-m", "one message and it leaves")
                client.process.wait(PATIENCE)
                self.publish("-q", "1", "-t", "wills", "-m", "end")
                self.assertEqual(heir.lines_until("end"), [])


class OfflineQueue(MosquittoTest):
    options = {"max_queued_messages": 0}

    def test_messages_wait_for_an_offline_client_in_order(self):
        durable = {
            "mqttv31": ["-V", "mqttv31", "-c"],
            "mqttv311": ["-V", "mqttv311", "-c"],
            "mqttv5": ["-V", "mqttv5", "-c", "-x", "60"],
        }
        for version, flags in durable.items():
            for qos in (1, 2):
                with self.subTest(version, qos=qos):
                    session = [
                        *flags,
                        "-i",
                        f"{version}-{qos}",
                        "-q",
                        "2",
                        "-t",
                        f"{version}/{qos}",
                    ]
                    self.be_offline_and_come_back(session, f"{version}/{qos}", qos)

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


class RequestResponse(MosquittoTest):
    def test_mosquitto_rr_gets_the_answer_to_its_request(self):
        responder = Client(self, "responder", V5)
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

    def test_an_anonymous_client_fails_and_says_why(self):
        for version in VERSIONS:
            with self.subTest(version):
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
