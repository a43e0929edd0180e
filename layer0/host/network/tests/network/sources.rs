//! A job speaks under its own address only.

use host_network::Partition;

use crate::world::{attach, datagrams, in_a_world, inside, ip, receive};

#[test]
fn a_borrowed_ip_address_is_dropped() {
    in_a_world(|world| async move {
        let network = world.network().await;
        let liar = attach(&network, "liar", Partition::User).await;
        let victim = attach(&network, "victim", Partition::System).await;
        let target = attach(&network, "target", Partition::User).await;
        let inbox = datagrams(&target.netns, target.ip, 7000);
        let borrowed = victim.ip;
        inside(&liar.netns, move || ip(&format!("addr add {borrowed}/32 dev eth0")));
        let honest = datagrams(&liar.netns, liar.ip, 0);
        let spoofed = datagrams(&liar.netns, victim.ip, 0);
        let to = (target.ip, 7000);
        // The first one also teaches the sender the way, so that the second is really sent.
        honest.send_to(b"one", to).unwrap();
        assert_eq!(receive(&inbox), "one");
        spoofed.send_to(b"a lie", to).unwrap();
        honest.send_to(b"two", to).unwrap();
        assert_eq!(receive(&inbox), "two", "packets keep their order, so the lie was dropped");
    });
}

#[test]
fn a_borrowed_hardware_address_is_dropped() {
    in_a_world(|world| async move {
        let network = world.network().await;
        let liar = attach(&network, "liar", Partition::User).await;
        let target = attach(&network, "target", Partition::User).await;
        let inbox = datagrams(&target.netns, target.ip, 7000);
        let sender = datagrams(&liar.netns, liar.ip, 0);
        let to = (target.ip, 7000);
        sender.send_to(b"one", to).unwrap();
        assert_eq!(receive(&inbox), "one");
        // Changing the address forgets the neighbours; a fixed entry takes ARP out of the test.
        let set_mac = |mac: &str| {
            let mac = mac.to_owned();
            let gateway = gateway_mac();
            let to = to.0;
            inside(&liar.netns, move || {
                ip(&format!("link set eth0 address {mac}"));
                ip(&format!("neigh replace {to} lladdr {gateway} nud permanent dev eth0"));
            });
        };
        set_mac(&target.mac);
        sender.send_to(b"a lie", to).unwrap();
        set_mac(&liar.mac);
        sender.send_to(b"two", to).unwrap();
        assert_eq!(receive(&inbox), "two");
    });
}

/// The bridge's hardware address.
fn gateway_mac() -> String {
    let shown = crate::world::output_of("ip", &["-o", "link", "show", "flynnbr0"]);
    let mut words = shown.split_whitespace().skip_while(|word| *word != "link/ether");
    words.nth(1).unwrap().to_owned()
}
