//! rumqttc, a client that nobody here wrote, against the real program. `scripts/clients.sh` makes a
//! column of `docs/clients.md` of the tests' names: those of `every_version` tell their story in
//! MQTT 3.1.1 and 5.0, those of `version_5` in 5.0.

mod common;
#[path = "common/socket.rs"]
mod socket;

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rumqttc::v5::mqttbytes::v5::{
    ConnAckProperties, ConnectProperties, Filter, LastWill, LastWillProperties, Publish,
    PublishProperties, RetainForwardRule, SubscribeProperties,
};
use rumqttc::v5::mqttbytes::{QoS, qos};
use rumqttc::{Outgoing, v5};

use socket::{Midge, PATIENCE, free_port};

const HOST: &str = "127.0.0.1";
const QOS_LEVELS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
const AT_LEAST_ONCE: QoS = QoS::AtLeastOnce;
const REQUESTS_MAX: usize = 100;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Version {
    V311,
    V5,
}

use Version::{V5, V311};

const VERSIONS: [Version; 2] = [V311, V5];

mod every_version {
    use super::*;

    #[test]
    fn connect() {
        let broker = Midge::start(&[]);
        for version in VERSIONS {
            let durable = Setup::durable("a");
            let mut client = Rumqttc::start(version, &broker, &durable);
            assert!(!client.connected().session_present);
            client.disconnect();
            let mut client = Rumqttc::start(version, &broker, &durable);
            assert!(client.connected().session_present);
            client.disconnect();
            let mut client = Rumqttc::start(version, &broker, &Setup::new("a"));
            let clean = client.connected();
            assert!(!clean.session_present, "a clean start keeps nothing");
        }
    }

    #[test]
    fn refused() {
        let port = free_port();
        let listener = format!("{port} {HOST}");
        let broker = Midge::spawn(&["--listener", &listener]).on_port(port);
        for version in VERSIONS {
            let mut stranger = Rumqttc::start(version, &broker, &Setup::new("stranger"));
            let why = stranger.lost();
            assert!(why.contains("NotAuthorized"), "{why}");
        }
    }

    #[test]
    fn qos_0() {
        arrives_once_from_and_to_either_version(QoS::AtMostOnce);
    }

    #[test]
    fn qos_1() {
        arrives_once_from_and_to_either_version(QoS::AtLeastOnce);
    }

    #[test]
    fn qos_2() {
        arrives_once_from_and_to_either_version(QoS::ExactlyOnce);
    }

    fn arrives_once_from_and_to_either_version(published: QoS) {
        let broker = Midge::start(&[]);
        for (from, to) in VERSIONS.map(|from| VERSIONS.map(|to| (from, to))).concat() {
            let mut publisher = Rumqttc::new(from, &broker, "publisher");
            for subscribed in QOS_LEVELS {
                let mut subscriber = Rumqttc::new(to, &broker, "subscriber");
                let granted = subscriber.subscribe("t", subscribed);
                assert_eq!(granted, format!("Success({subscribed:?})"));
                publisher.publish("t", "ä, 漢", published);
                publisher.publish("t", "end", published);
                let message = subscriber.message();
                assert_eq!(message.payload, "ä, 漢");
                assert_eq!(message.qos as u8, (published as u8).min(subscribed as u8));
                assert_eq!(subscriber.message().payload, "end", "delivered twice");
            }
        }
    }

    #[test]
    fn retained() {
        let broker = Midge::start(&[]);
        for version in VERSIONS {
            let mut publisher = Rumqttc::new(version, &broker, "publisher");
            publisher.publish_retained("lamp", "on");
            let mut early = Rumqttc::new(version, &broker, "early");
            early.subscribe("lamp", AT_LEAST_ONCE);
            let message = early.message();
            assert_eq!((&message.payload[..], message.retain), (&b"on"[..], true));

            publisher.publish_retained("lamp", "");
            assert!(!early.message().retain, "it was not kept for this one");
            let mut late = Rumqttc::new(version, &broker, "late");
            late.subscribe("lamp", AT_LEAST_ONCE);
            publisher.publish("lamp", "end", AT_LEAST_ONCE);
            assert_eq!(late.message().payload, "end", "it was cleared");
        }
    }

    #[test]
    fn will() {
        let broker = Midge::start(&[]);
        for version in VERSIONS {
            let mut heir = Rumqttc::new(version, &broker, "heir");
            heir.subscribe("wills", AT_LEAST_ONCE);
            let mortal = Setup::new("mortal").with_will("died", None);
            Rumqttc::accepted(version, &broker, &mortal).disconnect();
            drop(Rumqttc::accepted(version, &broker, &mortal));
            assert_eq!(heir.message().payload, "died");
            heir.publish("wills", "end", AT_LEAST_ONCE);
            assert_eq!(heir.message().payload, "end", "only the second one died");
        }
    }

    #[test]
    fn offline_queue() {
        let broker = Midge::start(&[]);
        for version in VERSIONS {
            let durable = Setup::durable("durable");
            let mut client = Rumqttc::accepted(version, &broker, &durable);
            client.subscribe("t", QoS::ExactlyOnce);
            client.disconnect();
            let mut publisher = Rumqttc::new(version, &broker, "publisher");
            for number in 0..100 {
                let qos = qos(1 + number % 2).expect("1 or 2");
                publisher.publish("t", &number.to_string(), qos);
            }

            let mut client = Rumqttc::start(version, &broker, &durable);
            assert!(client.connected().session_present);
            publisher.publish("t", "end", QoS::ExactlyOnce);
            for number in 0..100 {
                assert_eq!(client.message().payload, number.to_string());
            }
            assert_eq!(client.message().payload, "end");
            client.flush();
            client.disconnect();

            let mut again = Rumqttc::accepted(version, &broker, &durable);
            publisher.publish("t", "end", AT_LEAST_ONCE);
            assert_eq!(again.message().payload, "end", "delivered twice");
            again.disconnect();
            Rumqttc::new(version, &broker, "durable").disconnect();
        }
    }

    #[test]
    fn reconnect() {
        let broker = Midge::start(&[]);
        for version in VERSIONS {
            let line = Line::to(broker.port);
            let mut setup = Setup::durable("durable");
            setup.port = Some(line.port);
            let mut client = Rumqttc::accepted(version, &broker, &setup);
            client.subscribe("to/client", QoS::ExactlyOnce);
            let mut other = Rumqttc::new(version, &broker, "other");
            other.subscribe("to/other", AT_LEAST_ONCE);

            line.cut();
            client.lost();
            other.publish("to/client", "while away", QoS::ExactlyOnce);
            client.request_publish("to/other", "from afar", AT_LEAST_ONCE);
            assert!(client.connected().session_present);
            assert_eq!(client.message().payload, "while away");
            client.acknowledged();
            assert_eq!(other.message().payload, "from afar");
            other.publish("to/client", "end", QoS::ExactlyOnce);
            assert_eq!(client.message().payload, "end");
            client.disconnect();
            Rumqttc::new(version, &broker, "durable").disconnect();
        }
    }

    #[test]
    fn restart() {
        for version in VERSIONS {
            let broker = Midge::start(&[]);
            let port = broker.port;
            let mut client = Rumqttc::accepted(version, &broker, &Setup::durable("durable"));
            assert_eq!(broker.stop().status, Some(0));
            client.lost();
            let refused = client.lost();
            assert!(refused.contains("refused"), "nobody is there: {refused}");

            let _again = Midge::spawn(&["-p", &port.to_string()]).on_port(port);
            assert!(!client.connected().session_present);
            client.subscribe("t", AT_LEAST_ONCE);
            client.publish("t", "as before", AT_LEAST_ONCE);
            assert_eq!(client.message().payload, "as before");
        }
    }

    #[test]
    fn takeover() {
        let broker = Midge::start(&[]);
        for version in VERSIONS {
            let durable = Setup::durable("twin");
            let mut old = Rumqttc::accepted(version, &broker, &durable);
            old.subscribe("t", AT_LEAST_ONCE);
            let mut new = Rumqttc::start(version, &broker, &durable);
            assert!(new.connected().session_present);
            let why = old.lost();
            assert!(version == V311 || why.contains("SessionTakenOver"), "{why}");
            new.publish("t", "to the new one", AT_LEAST_ONCE);
            assert_eq!(new.message().payload, "to the new one");
            new.disconnect();
            Rumqttc::new(version, &broker, "twin").disconnect();
        }
    }
}

mod version_5 {
    use super::*;

    #[test]
    fn properties() {
        let broker = Midge::start(&[]);
        let mut client = Rumqttc::new(V5, &broker, "a");
        client.subscribe("t", AT_LEAST_ONCE);
        let pair = |name: &str, value: &str| (name.to_string(), value.to_string());
        let sent = PublishProperties {
            payload_format_indicator: Some(1),
            content_type: Some("text/plain; charset=utf-8".to_string()),
            user_properties: vec![pair("b", "1"), pair("a", "2"), pair("b", "1")],
            ..PublishProperties::default()
        };
        client.publish_with("t", "grüezi", sent.clone());
        assert_eq!(client.message().properties, Some(sent));
    }

    #[test]
    fn request_response() {
        let broker = Midge::start(&[]);
        let mut asking = Rumqttc::new(V5, &broker, "asking");
        let mut answering = Rumqttc::new(V5, &broker, "answering");
        asking.subscribe("answers", AT_LEAST_ONCE);
        answering.subscribe("service", AT_LEAST_ONCE);
        let request = PublishProperties {
            response_topic: Some("answers".to_string()),
            correlation_data: Some("7".into()),
            ..PublishProperties::default()
        };
        asking.publish_with("service", "ping", request);

        let request = answering.message().properties.expect("a response topic");
        let response = PublishProperties {
            correlation_data: request.correlation_data,
            ..PublishProperties::default()
        };
        let topic = request.response_topic.expect("a response topic");
        answering.publish_with(&topic, "pong", response);

        let response = asking.message();
        let correlation = response.properties.expect("the same").correlation_data;
        assert_eq!(
            (&response.payload[..], correlation),
            (&b"pong"[..], Some("7".into()))
        );
    }

    #[test]
    fn message_expiry() {
        let broker = Midge::start(&[]);
        let durable = Setup::durable("late");
        let mut late = Rumqttc::accepted(V5, &broker, &durable);
        late.subscribe("t", AT_LEAST_ONCE);
        late.disconnect();
        let mut publisher = Rumqttc::new(V5, &broker, "publisher");
        let lasting = |seconds| PublishProperties {
            message_expiry_interval: Some(seconds),
            ..PublishProperties::default()
        };
        publisher.publish_with("t", "short-lived", lasting(1));
        publisher.publish_with("t", "long-lived", lasting(100));
        thread::sleep(Duration::from_millis(2_100)); // Only time itself lets a message expire.

        let message = Rumqttc::accepted(V5, &broker, &durable).message();
        assert_eq!(message.payload, "long-lived");
        let left = message
            .properties
            .and_then(|properties| properties.message_expiry_interval);
        assert!(
            left.is_some_and(|left| (80..99).contains(&left)),
            "{left:?}"
        );
    }

    #[test]
    fn subscription_identifier() {
        let broker = Midge::start(&[]);
        let mut client = Rumqttc::new(V5, &broker, "a");
        for (filter, identifier) in [("a/+", 7), ("a/#", 268_435_455)] {
            let identifier = SubscribeProperties {
                id: Some(identifier),
                user_properties: Vec::new(),
            };
            client
                .v5()
                .subscribe_with_properties(filter, AT_LEAST_ONCE, identifier)
                .expect("there is room");
            client.subscribed();
        }
        for (topic, expected) in [("a", vec![268_435_455]), ("a/b", vec![7, 268_435_455])] {
            client.publish(topic, "x", AT_LEAST_ONCE);
            let properties = client.message().properties.expect("an identifier");
            let mut identifiers = properties.subscription_identifiers;
            identifiers.sort();
            assert_eq!(identifiers, expected, "{topic}");
        }
    }

    #[test]
    fn topic_alias() {
        let broker = Midge::start(&[]);
        let mut subscriber = Rumqttc::new(V5, &broker, "subscriber");
        subscriber.subscribe("#", AT_LEAST_ONCE);
        let mut publisher = Rumqttc::start(V5, &broker, &Setup::new("publisher"));
        let given = publisher.connected().properties.expect("limits");
        assert!(given.topic_alias_max.is_some_and(|max| max >= 2));
        let alias = |alias| PublishProperties {
            topic_alias: Some(alias),
            ..PublishProperties::default()
        };
        for (topic, number, meant) in [
            ("long/topic", 1, "long/topic"),
            ("other/topic", 2, "other/topic"),
            ("", 1, "long/topic"),
            ("new/topic", 1, "new/topic"),
            ("", 1, "new/topic"),
        ] {
            publisher.publish_with(topic, "x", alias(number));
            assert_eq!(subscriber.message().topic, meant);
        }
    }

    #[test]
    fn receive_maximum() {
        let broker = Midge::start(&["--receive-maximum", "2"]);
        let mut setup = Setup::new("subscriber");
        setup.manual_acks = true;
        setup.properties.receive_maximum = Some(3);
        let mut subscriber = Rumqttc::accepted(V5, &broker, &setup);
        subscriber.subscribe("t", AT_LEAST_ONCE);
        let mut publisher = Rumqttc::new(V5, &broker, "publisher");
        for number in 0..5 {
            publisher.request_publish("t", &number.to_string(), QoS::ExactlyOnce);
        }
        (0..5).for_each(|_| _ = publisher.acknowledged()); // It keeps to the two that it may begin.

        // The answer to another request comes after all that the broker had to send before.
        subscriber.subscribe("another", AT_LEAST_ONCE);
        assert_eq!(subscriber.inbox.len(), 3);
        let in_flight: Vec<_> = subscriber.inbox.drain(..).collect();
        subscriber.ack(&in_flight[0]);
        subscriber.ack(&in_flight[1]);
        let then = [subscriber.message(), subscriber.message()];
        let payloads = in_flight
            .iter()
            .chain(&then)
            .map(|message| message.payload.clone());
        assert!(payloads.eq(["0", "1", "2", "3", "4"]));
    }

    #[test]
    fn reason_codes() {
        let broker = Midge::start(&["--max-qos", "1"]);
        let mut client = Rumqttc::new(V5, &broker, "a");
        assert_eq!(
            client.publish("t", "x", AT_LEAST_ONCE),
            "NoMatchingSubscribers"
        );
        assert_eq!(
            client.subscribe("t", QoS::ExactlyOnce),
            "Success(AtLeastOnce)"
        );
        assert_eq!(client.publish("t", "x", AT_LEAST_ONCE), "Success");
        broker.signal("TERM");
        let why = client.lost();
        assert!(why.contains("ServerShuttingDown"), "{why}");
    }

    #[test]
    fn session_expiry() {
        let broker = Midge::start(&[]);
        let mut heir = Rumqttc::new(V5, &broker, "heir");
        heir.subscribe("wills", AT_LEAST_ONCE);
        // A session that ends publishes its will, however long the will's delay: it tells the time.
        let mut brief = Setup::durable("brief").with_will("ended", Some(60));
        brief.properties.session_expiry_interval = Some(1);
        drop(Rumqttc::accepted(V5, &broker, &brief));
        let mut back = Rumqttc::start(V5, &broker, &brief);
        assert!(back.connected().session_present, "a second has not passed");
        drop(back);
        assert_eq!(heir.message().payload, "ended");
        let mut back = Rumqttc::start(V5, &broker, &brief);
        assert!(!back.connected().session_present);
    }

    #[test]
    fn shared_subscription() {
        let broker = Midge::start(&[]);
        let mut members = ["a", "b"].map(|id| Rumqttc::new(V5, &broker, id));
        for member in &mut members {
            member.subscribe("$share/g/t", AT_LEAST_ONCE);
            member.subscribe("all", AT_LEAST_ONCE);
        }
        let mut publisher = Rumqttc::new(V5, &broker, "publisher");
        for number in 10..30 {
            publisher.publish("t", &number.to_string(), AT_LEAST_ONCE);
        }
        publisher.publish("all", "end", AT_LEAST_ONCE);
        let shares = members.each_mut().map(|member| {
            let messages = std::iter::from_fn(|| Some(member.message().payload));
            messages
                .take_while(|payload| payload != "end")
                .collect::<Vec<_>>()
        });
        assert!(shares.iter().all(|share| !share.is_empty()), "{shares:?}");
        let mut all = shares.concat();
        all.sort();
        assert!(
            all.into_iter()
                .eq((10..30).map(|number| number.to_string()))
        );
    }

    #[test]
    fn will_delay() {
        let broker = Midge::start(&[]);
        let mut heir = Rumqttc::new(V5, &broker, "heir");
        heir.subscribe("wills", AT_LEAST_ONCE);
        let returning = Setup::durable("returning").with_will("not yet", Some(1));
        drop(Rumqttc::accepted(V5, &broker, &returning));
        let _back = Rumqttc::accepted(V5, &broker, &returning);
        let patient = Setup::durable("patient").with_will("died", Some(1));
        let client = Rumqttc::accepted(V5, &broker, &patient);
        let dropped = Instant::now();
        drop(client);
        assert_eq!(heir.message().payload, "died");
        assert!(dropped.elapsed() >= Duration::from_secs(1));
    }

    #[test]
    fn subscription_options() {
        let broker = Midge::start(&[]);
        let mut publisher = Rumqttc::new(V5, &broker, "publisher");
        publisher.publish_retained("kept", "retained");
        let mut client = Rumqttc::new(V5, &broker, "a");
        client.subscribe_to(Filter {
            nolocal: true,
            preserve_retain: true,
            retain_forward_rule: RetainForwardRule::Never,
            ..Filter::new("#", AT_LEAST_ONCE)
        });
        client.publish("t", "own", AT_LEAST_ONCE);
        publisher.publish_retained("t", "live");
        let message = client.message();
        assert_eq!((&message.payload[..], message.retain), (&b"live"[..], true));

        let if_new = || Filter {
            retain_forward_rule: RetainForwardRule::OnNewSubscribe,
            ..Filter::new("kept", AT_LEAST_ONCE)
        };
        client.subscribe_to(if_new());
        assert_eq!(client.message().payload, "retained");
        client.subscribe_to(if_new());
        publisher.publish("end", "end", AT_LEAST_ONCE);
        assert_eq!(client.message().payload, "end", "the second was not new");
    }
}

// ---- the client ---------------------------------------------------------------------------------

/// What a client is started with.
struct Setup {
    id: &'static str,
    clean: bool,
    /// Instead of the broker's.
    port: Option<u16>,
    manual_acks: bool,
    /// In version 5; an older one has the will without its properties.
    will: Option<LastWill>,
    properties: ConnectProperties,
}

impl Setup {
    fn new(id: &'static str) -> Setup {
        Setup {
            id,
            clean: true,
            port: None,
            manual_acks: false,
            will: None,
            properties: ConnectProperties::new(),
        }
    }

    fn durable(id: &'static str) -> Setup {
        let mut setup = Setup::new(id);
        setup.clean = false;
        setup.properties.session_expiry_interval = Some(60);
        setup
    }

    fn with_will(mut self, payload: &str, delay: Option<u32>) -> Setup {
        let properties = delay.map(|delay| LastWillProperties {
            delay_interval: Some(delay),
            payload_format_indicator: None,
            message_expiry_interval: None,
            content_type: None,
            response_topic: None,
            correlation_data: None,
            user_properties: Vec::new(),
        });
        self.will = Some(LastWill::new(
            "wills",
            payload,
            AT_LEAST_ONCE,
            false,
            properties,
        ));
        self
    }
}

enum Handle {
    V4(rumqttc::Client, Box<rumqttc::Connection>),
    V5(v5::Client, Box<v5::Connection>),
}

enum Event {
    Connected(Connected),
    Subscribed(String),
    Message(Publish),
    /// The reason in PUBACK or PUBCOMP.
    Acknowledged(String),
    Sent(Outgoing),
    Lost(String),
    Other,
}

struct Connected {
    session_present: bool,
    properties: Option<ConnAckProperties>,
}

/// A client that is alive only while a test waits for it to do something.
struct Rumqttc {
    handle: Handle,
    /// Messages that came while the test waited for something else.
    inbox: VecDeque<Publish>,
}

impl Rumqttc {
    /// Connected, with a clean session.
    fn new(version: Version, broker: &Midge, id: &'static str) -> Rumqttc {
        Rumqttc::accepted(version, broker, &Setup::new(id))
    }

    fn accepted(version: Version, broker: &Midge, setup: &Setup) -> Rumqttc {
        let mut client = Rumqttc::start(version, broker, setup);
        client.connected();
        client
    }

    /// It connects when the test waits for that.
    fn start(version: Version, broker: &Midge, setup: &Setup) -> Rumqttc {
        let port = setup.port.unwrap_or(broker.port);
        let handle = match version {
            V311 => start_v4(port, setup),
            V5 => start_v5(port, setup),
        };
        Rumqttc {
            handle,
            inbox: VecDeque::new(),
        }
    }

    fn request_publish(&mut self, topic: &str, payload: &str, qos: QoS) {
        match &self.handle {
            Handle::V4(client, _) => client
                .publish(topic, v4_qos(qos), false, payload)
                .expect("there is room"),
            Handle::V5(client, _) => client
                .publish(topic, qos, false, payload.to_string())
                .expect("there is room"),
        }
    }

    /// Returns the reason of the acknowledgement when it has come; at QoS 0 when it is sent.
    fn publish(&mut self, topic: &str, payload: &str, qos: QoS) -> String {
        self.request_publish(topic, payload, qos);
        match qos {
            QoS::AtMostOnce => {
                self.flush();
                String::new()
            }
            QoS::AtLeastOnce | QoS::ExactlyOnce => self.acknowledged(),
        }
    }

    fn publish_retained(&mut self, topic: &str, payload: &str) {
        let payload = payload.to_string();
        match &self.handle {
            Handle::V4(client, _) => client
                .publish(topic, v4_qos(AT_LEAST_ONCE), true, payload)
                .expect("there is room"),
            Handle::V5(client, _) => client
                .publish(topic, AT_LEAST_ONCE, true, payload)
                .expect("there is room"),
        }
        self.acknowledged();
    }

    fn publish_with(&mut self, topic: &str, payload: &str, properties: PublishProperties) {
        let payload = payload.to_string();
        self.v5()
            .publish_with_properties(topic, AT_LEAST_ONCE, false, payload, properties)
            .expect("there is room");
        self.acknowledged();
    }

    /// Returns what the broker granted.
    fn subscribe(&mut self, filter: &str, qos: QoS) -> String {
        match &self.handle {
            Handle::V4(client, _) => client
                .subscribe(filter, v4_qos(qos))
                .expect("there is room"),
            Handle::V5(client, _) => client.subscribe(filter, qos).expect("there is room"),
        }
        self.subscribed()
    }

    fn subscribe_to(&mut self, filter: Filter) {
        self.v5().subscribe_many([filter]).expect("there is room");
        self.subscribed();
    }

    fn ack(&mut self, message: &Publish) {
        self.v5().ack(message).expect("there is room");
    }

    fn v5(&self) -> &v5::Client {
        match &self.handle {
            Handle::V5(client, _) => client,
            Handle::V4(..) => unreachable!("only a client of version 5 is asked for this"),
        }
    }

    /// Takes leave and closes the connection. Without it, dropping the client is its sudden death.
    fn disconnect(mut self) {
        match &self.handle {
            Handle::V4(client, _) => client.disconnect().expect("there is room"),
            Handle::V5(client, _) => client.disconnect().expect("there is room"),
        }
        self.until(|event| matches!(event, Event::Sent(Outgoing::Disconnect)).then_some(()));
    }

    /// The broker has all that the client said up to now.
    fn flush(&mut self) {
        let granted = self.subscribe("flush", QoS::AtMostOnce);
        assert_eq!(granted, "Success(AtMostOnce)");
    }

    /// It tries again where it fails.
    fn connected(&mut self) -> Connected {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.step() {
                Event::Connected(connected) => return connected,
                Event::Lost(why) => assert!(Instant::now() < end, "{why}"),
                Event::Message(message) => panic!("before CONNACK: {message:?}"),
                _ => {}
            }
        }
    }

    /// Why it lost its connection, or did not get one.
    fn lost(&mut self) -> String {
        loop {
            if let Event::Lost(why) = self.step() {
                return why;
            }
        }
    }

    fn subscribed(&mut self) -> String {
        self.until(|event| match event {
            Event::Subscribed(granted) => Some(granted),
            _ => None,
        })
    }

    fn acknowledged(&mut self) -> String {
        self.until(|event| match event {
            Event::Acknowledged(reason) => Some(reason),
            _ => None,
        })
    }

    fn message(&mut self) -> Publish {
        while self.inbox.is_empty() {
            self.until(|_| Some(()));
        }
        self.inbox.pop_front().expect("there is one")
    }

    /// Lets it go on until something happens; messages are put aside.
    fn until<T>(&mut self, wanted: impl Fn(Event) -> Option<T>) -> T {
        loop {
            let event = match self.step() {
                Event::Message(message) => {
                    self.inbox.push_back(message);
                    Event::Other
                }
                Event::Lost(why) => panic!("the connection is lost: {why}"),
                event => event,
            };
            if let Some(found) = wanted(event) {
                return found;
            }
        }
    }

    fn step(&mut self) -> Event {
        match &mut self.handle {
            Handle::V4(_, connection) => match connection.recv_timeout(PATIENCE) {
                Ok(Ok(event)) => v4_event(event),
                Ok(Err(error)) => Event::Lost(format!("{error:?}")),
                Err(error) => panic!("nothing happens: {error:?}"),
            },
            Handle::V5(_, connection) => match connection.recv_timeout(PATIENCE) {
                Ok(Ok(event)) => v5_event(event),
                Ok(Err(error)) => Event::Lost(format!("{error:?}")),
                Err(error) => panic!("nothing happens: {error:?}"),
            },
        }
    }
}

fn start_v4(port: u16, setup: &Setup) -> Handle {
    let mut options = rumqttc::MqttOptions::new(setup.id, HOST, port);
    options.set_clean_session(setup.clean);
    options.set_manual_acks(setup.manual_acks);
    if let Some(will) = &setup.will {
        let topic = String::from_utf8_lossy(&will.topic);
        let payload = will.message.to_vec();
        let qos = v4_qos(will.qos);
        options.set_last_will(rumqttc::LastWill::new(topic, payload, qos, will.retain));
    }
    let (client, connection) = rumqttc::Client::new(options, REQUESTS_MAX);
    Handle::V4(client, Box::new(connection))
}

fn start_v5(port: u16, setup: &Setup) -> Handle {
    let mut options = v5::MqttOptions::new(setup.id, HOST, port);
    options.set_clean_start(setup.clean);
    options.set_manual_acks(setup.manual_acks);
    options.set_connect_properties(setup.properties.clone());
    if let Some(will) = &setup.will {
        options.set_last_will(will.clone());
    }
    let (client, connection) = v5::Client::new(options, REQUESTS_MAX);
    Handle::V5(client, Box::new(connection))
}

fn v4_qos(qos: QoS) -> rumqttc::QoS {
    rumqttc::qos(qos as u8).expect("both have the same three")
}

fn v4_event(event: rumqttc::Event) -> Event {
    use rumqttc::Packet;
    match event {
        rumqttc::Event::Incoming(Packet::ConnAck(connack)) => Event::Connected(Connected {
            session_present: connack.session_present,
            properties: None,
        }),
        rumqttc::Event::Incoming(Packet::SubAck(suback)) => {
            Event::Subscribed(format!("{:?}", suback.return_codes[0]))
        }
        rumqttc::Event::Incoming(Packet::Publish(publish)) => {
            let level = qos(publish.qos as u8).expect("both have the same three");
            let mut message = Publish::new(publish.topic, level, publish.payload, None);
            message.retain = publish.retain;
            message.dup = publish.dup;
            Event::Message(message)
        }
        rumqttc::Event::Incoming(Packet::PubAck(_) | Packet::PubComp(_)) => {
            Event::Acknowledged(String::new())
        }
        rumqttc::Event::Incoming(_) => Event::Other,
        rumqttc::Event::Outgoing(sent) => Event::Sent(sent),
    }
}

fn v5_event(event: v5::Event) -> Event {
    use v5::mqttbytes::v5::Packet;
    match event {
        v5::Event::Incoming(Packet::ConnAck(connack)) => Event::Connected(Connected {
            session_present: connack.session_present,
            properties: connack.properties,
        }),
        v5::Event::Incoming(Packet::SubAck(suback)) => {
            Event::Subscribed(format!("{:?}", suback.return_codes[0]))
        }
        v5::Event::Incoming(Packet::Publish(publish)) => Event::Message(publish),
        v5::Event::Incoming(Packet::PubAck(ack)) => {
            Event::Acknowledged(format!("{:?}", ack.reason))
        }
        v5::Event::Incoming(Packet::PubComp(ack)) => {
            Event::Acknowledged(format!("{:?}", ack.reason))
        }
        v5::Event::Incoming(_) => Event::Other,
        v5::Event::Outgoing(sent) => Event::Sent(sent),
    }
}

// ---- the way to the broker ----------------------------------------------------------------------

/// A way to the broker that can be cut.
struct Line {
    port: u16,
    ends: Arc<Mutex<Vec<TcpStream>>>,
}

impl Line {
    fn to(broker_port: u16) -> Line {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let ends = Arc::new(Mutex::new(Vec::new()));
        let cuttable = Arc::clone(&ends);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let broker = TcpStream::connect((Ipv4Addr::LOCALHOST, broker_port));
                let broker = broker.expect("it listens");
                carry(&client, &broker);
                carry(&broker, &client);
                cuttable.lock().unwrap().extend([client, broker]);
            }
        });
        Line { port, ends }
    }

    fn cut(&self) {
        for end in self.ends.lock().unwrap().drain(..) {
            let _ = end.shutdown(Shutdown::Both);
        }
    }
}

fn carry(from: &TcpStream, to: &TcpStream) {
    let mut from = from.try_clone().expect("there are descriptors");
    let mut to = to.try_clone().expect("there are descriptors");
    thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Both);
    });
}
