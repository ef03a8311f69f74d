mod common;
use common::*;
use midge::packet::*;

#[test]
fn smoke() {
    for version in [Version::V31, Version::V311, Version::V5] {
        let mut world = World::new();
        let sub = world.client(version, "sub");
        let publisher = world.client(version, "pub");
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            world.subscribe(sub, "a/+", qos);
            world.publish(publisher, "a/b", "x");
            assert_eq!(world.payloads(sub), ["x"]);
        }
        world.send(publisher, &Packet::Publish(retained("a/r", "keep")));
        world.payloads(sub);
        let late = world.client(version, "late");
        world.subscribe(late, "#", QoS::AtMostOnce);
        assert_eq!(world.payloads(late), ["keep"]);
    }
}
