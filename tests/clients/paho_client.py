"""A paho client whose callbacks fill queues, so that a test waits for events and never sleeps."""

import queue
import socket
from collections import namedtuple

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from broker import HOST, PATIENCE

V31, V311, V5 = mqtt.MQTTv31, mqtt.MQTTv311, mqtt.MQTTv5
VERSIONS = {"3.1": V31, "3.1.1": V311, "5.0": V5}

Connack = namedtuple("Connack", "reason session_present properties")


def properties(packet, **values):
    bag = Properties(packet)
    for name, value in values.items():
        setattr(bag, name, value)
    return bag


def disconnect_reason(paho, flags):
    """The reason code the broker sent, or None. paho 2.1 overlooks it if no properties follow it."""
    if not flags.is_disconnect_packet_from_server:
        return None
    return next(iter(paho._in_packet["packet"]), 0)


class Client:
    """Properties of a packet are given by their MQTT names: publish(..., MessageExpiryInterval=60)."""

    def __init__(
        self,
        test,
        client_id="",
        version=V5,
        clean=True,
        will=None,
        manual_ack=False,
        reconnects=False,
    ):
        self.version = version
        self.clean = clean
        self.port = test.broker.port
        self.connacks = queue.Queue()
        self.subacks = queue.Queue()
        self.pubacks = queue.Queue()
        self.unsubacks = queue.Queue()
        self.disconnects = queue.Queue()
        self.messages = queue.Queue()
        clean_session = None if version == V5 else clean
        self.paho = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2,
            client_id,
            clean_session,
            protocol=version,
            reconnect_on_failure=reconnects,
            manual_ack=manual_ack,
        )
        self.paho.on_connect = lambda _c, _u, flags, reason, props: self.connacks.put(
            Connack(reason.value, flags.session_present, props)
        )
        self.paho.on_subscribe = lambda _c, _u, _mid, reasons, _p: self.subacks.put(
            [reason.value for reason in reasons]
        )
        self.paho.on_publish = lambda _c, _u, _mid, reason, _p: self.pubacks.put(reason.value)
        self.paho.on_unsubscribe = lambda _c, _u, _mid, reasons, _p: self.unsubacks.put(reasons)
        self.paho.on_disconnect = lambda paho, _u, flags, _r, _p: self.disconnects.put(
            disconnect_reason(paho, flags)
        )
        self.paho.on_message = lambda _c, _u, message: self.messages.put(message)
        if will:
            topic, payload, *delay = will
            given = {"WillDelayInterval": delay[0]} if delay else {}
            given = properties(PacketTypes.WILLMESSAGE, **given) if version == V5 else None
            self.paho.will_set(topic, payload, qos=1, properties=given)
        test.addCleanup(self.close)

    def connect(self, **connect_properties):
        """Connects, with whatever answer."""
        v5 = {}
        if self.version == V5:
            v5["clean_start"] = self.clean
            v5["properties"] = properties(PacketTypes.CONNECT, **connect_properties)
        self.paho.connect(HOST, self.port, **v5)
        self.paho.loop_start()
        return self.connacks.get(timeout=PATIENCE)

    def subscribe(self, topic_filter, qos=0, identifier=None, **options):
        """Returns the reason code once the subscription is acknowledged."""
        if self.version == V5:
            given = {"SubscriptionIdentifier": identifier} if identifier else {}
            self.paho.subscribe(
                topic_filter,
                options=SubscribeOptions(qos, **options),
                properties=properties(PacketTypes.SUBSCRIBE, **given),
            )
        else:
            self.paho.subscribe(topic_filter, qos)
        (reason,) = self.subacks.get(timeout=PATIENCE)
        return reason

    def unsubscribe(self, topic_filter):
        self.paho.unsubscribe(topic_filter)
        self.unsubacks.get(timeout=PATIENCE)

    def publish(self, topic, payload=b"", qos=1, retain=False, **publish_properties):
        """Returns once the broker has the message: at QoS 1 and 2 it has acknowledged it."""
        props = properties(PacketTypes.PUBLISH, **publish_properties)
        sent = self.paho.publish(topic, payload, qos, retain, props)
        sent.wait_for_publish(PATIENCE)
        assert sent.is_published(), f"the broker does not acknowledge a message on {topic!r}"

    def message(self):
        return self.messages.get(timeout=PATIENCE)

    def messages_until(self, payload):
        """All messages before the one with this payload, which a test publishes as the last."""
        before = []
        while (message := self.message()).payload != payload:
            before.append(message)
        return before

    def disconnect(self, **disconnect_properties):
        self.paho.disconnect(properties=properties(PacketTypes.DISCONNECT, **disconnect_properties))
        self.disconnects.get(timeout=PATIENCE)
        self.paho.loop_stop()

    def drop(self):
        """Loses the network connection, without a DISCONNECT, and does not come back."""
        self.cut()
        self.paho.loop_stop()

    def cut(self):
        """Loses the network connection, without a DISCONNECT."""
        self.paho.socket().shutdown(socket.SHUT_RDWR)
        self.disconnects.get(timeout=PATIENCE)

    def close(self):
        self.paho.disconnect()
        self.paho.loop_stop()
