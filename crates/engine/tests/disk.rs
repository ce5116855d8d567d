//! A shard and the embedded array, over real sockets on loopback, seen from an NBD client.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so where it stands")]

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use block::Durability;
use engine::config::{DiskConfig, ExportAddress, Filter, InitiatorConfig, Layer, PortalConfig, ShardConfig};
use engine::status::{Notice, NoticeKind, Snapshot};
use engine::{ArrayConfig, ArrayHandle, Message, NoPath, Policy, PortFault, ShardHandle, UnitConfig};
use nbd::client::{Client, Command, Destination, Options, Replies};
use scsi::port_groups::AccessState;

/// Longer than anything here may take; a test that waits so long has found a hang.
const PATIENCE: Duration = Duration::from_secs(20);
const PORTS: usize = 4;
const BLOCK: usize = 4096;
/// SPC: the operation code.
const INQUIRY: u8 = 0x12;

/// An array with four ports, a disk over them, and a client of the disk.
struct Rig {
    array: ArrayHandle,
    shard: ShardHandle,
    notices: Receiver<Notice>,
    socket: PathBuf,
}

impl Rig {
    fn start(name: &str, no_path: NoPath) -> Self {
        Self::over(PORTS, name, no_path)
    }

    fn over(ports: usize, name: &str, no_path: NoPath) -> Self {
        let unit = UnitConfig {
            size: 16 << 20,
            block_size: 512,
            file: None,
            serial: None,
            number: None,
            thin: true,
            read_only: false,
            rotation_rate: None,
            is_nameless: false,
            owner: None,
        };
        let array = ArrayHandle::start(&ArrayConfig {
            portals: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0)); ports],
            target_name: String::from("iqn.2026-11.org.smpath:test"),
            units: vec![unit],
            chap: None,
            behaviour: engine::Behaviour::default(),
        })
        .unwrap();
        let (socket, config) = configuration(&array, name, no_path);
        let (shard, notices) = ShardHandle::start(config).unwrap();
        let rig = Self { array, shard, notices, socket };
        rig.wait_for_paths(ports);
        rig
    }

    fn client(&self) -> Client<UnixStream> {
        let stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client::connect(stream, &Options { export: String::new(), replies: Replies::Structured }).unwrap()
    }

    fn wait_for_paths(&self, usable: usize) {
        self.wait_until(|snapshot| {
            let paths = snapshot.disks.iter().flat_map(|disk| &disk.paths);
            paths.filter(|path| path.state.contains("optimized")).count() == usable
        });
    }

    fn wait_until(&self, condition: impl Fn(&Snapshot) -> bool) {
        let limit = Instant::now() + PATIENCE;
        while !condition(&self.shard.snapshot().unwrap()) {
            assert!(Instant::now() < limit, "{:#?}", self.shard.snapshot());
            // The next notice is the next thing that can make a difference; a snapshot is cheap.
            let _ = self.notices.recv_timeout(Duration::from_millis(5));
        }
    }

    fn wait_for_notice(&self, text: &str) {
        while !self.notices.recv_timeout(PATIENCE).unwrap().text.contains(text) {}
    }

    /// Ends everything; whether the shard ended in order.
    fn stop(self) -> bool {
        self.shard.stop();
        let clean = self.notices.iter().any(|notice| notice.kind == NoticeKind::Ended { clean: true });
        self.array.shutdown();
        clean
    }
}

/// A socket that the disks behind an array are served at, and the shard that does so.
fn configuration(array: &ArrayHandle, name: &str, no_path: NoPath) -> (PathBuf, ShardConfig) {
    let socket = std::env::temp_dir().join(format!("smpath-engine-{}-{name}.sock", std::process::id()));
    let config = ShardConfig {
        initiator: InitiatorConfig {
            name: format!("iqn.2026-11.org.smpath:{name}"),
            chap: None,
            digests: engine::config::Digests::None,
            login_timeout: Duration::from_secs(5),
            nop_interval: Duration::from_millis(100),
            nop_timeout: Duration::from_millis(100),
            command_timeout: Duration::from_millis(500),
            early_data: engine::config::EarlyData::On,
        },
        portals: vec![PortalConfig::Discover(array.addresses()[0])],
        exports: vec![ExportAddress::NbdUnix(socket.clone())],
        disks: DiskConfig {
            policy: Policy::RoundRobin,
            no_path,
            delayed_removal: clock::Duration::ZERO,
            layer: Layer::Multipath,
            slow_paths: engine::config::SlowPaths::Demote,
            hedging: engine::config::Hedging::Off,
            multipath: engine::config::Multipath::Always,
            sharing: engine::config::Sharing::default(),
            fence: engine::config::FencePolicy::default(),
            alua: engine::config::Alua::Implicit,
            path_check: None,
        },
        filter: Filter::default(),
        state: None,
    };
    (socket, config)
}

/// Paths in a state.
fn count(snapshot: &Snapshot, state: &str) -> usize {
    snapshot.disks.iter().flat_map(|disk| &disk.paths).filter(|path| path.state == state).count()
}

fn content(version: u8, block: usize) -> Vec<u8> {
    let mut bytes = vec![version; BLOCK];
    bytes[..8].copy_from_slice(&(block as u64).to_be_bytes());
    bytes
}

fn write(client: &mut Client<UnixStream>, version: u8, blocks: usize) {
    for block in 0..blocks {
        client.write((block * BLOCK) as u64, &content(version, block), Durability::Volatile).unwrap();
    }
}

fn verify(client: &mut Client<UnixStream>, version: u8, blocks: usize) {
    let mut bytes = vec![0; BLOCK];
    for block in 0..blocks {
        client.read((block * BLOCK) as u64, &mut bytes).unwrap();
        assert_eq!(bytes, content(version, block), "block {block}");
    }
}

#[test]
fn a_disk_over_one_port_and_its_client_survive_a_reset() {
    let rig = Rig::over(1, "one", NoPath::Queue);
    let mut client = rig.client();
    write(&mut client, 1, 8);
    rig.array.set_port(0, PortFault::Reset);
    rig.wait_for_paths(0);
    rig.array.set_port(0, PortFault::None);
    write(&mut client, 2, 8);
    verify(&mut client, 2, 8);
    assert!(rig.stop());
}

#[test]
fn a_disk_over_four_ports_survives_the_loss_of_three() {
    let rig = Rig::start("three", NoPath::Fail);
    let mut client = rig.client();
    write(&mut client, 1, 64);
    for port in [0, 2, 3] {
        rig.array.set_port(port, PortFault::Reset);
        write(&mut client, 2 + u8::try_from(port).unwrap(), 64);
    }
    rig.wait_for_paths(1);
    verify(&mut client, 5, 64);
    for port in [0, 2, 3] {
        rig.array.set_port(port, PortFault::None);
    }
    rig.wait_for_paths(PORTS);
    verify(&mut client, 5, 64);
    drop(client);
    assert!(rig.stop());
}

#[test]
fn a_port_that_falls_silent_is_noticed_and_its_requests_go_on_elsewhere() {
    let rig = Rig::start("silent", NoPath::Fail);
    let mut client = rig.client();
    rig.array.set_port(1, PortFault::BlackHole);
    // Round-robin sends every fourth request into the hole.
    write(&mut client, 7, 16);
    rig.wait_for_paths(PORTS - 1);
    verify(&mut client, 7, 16);
    rig.array.set_port(1, PortFault::None);
    rig.wait_for_paths(PORTS);
    drop(client);
    assert!(rig.stop());
}

#[test]
fn requests_wait_for_a_path_as_long_as_they_were_told_to() {
    let rig = Rig::start("wait", NoPath::Queue);
    let mut client = rig.client();
    for port in 0..PORTS {
        rig.array.set_port(port, PortFault::Reset);
    }
    rig.wait_for_paths(0);
    let writer = std::thread::spawn(move || {
        write(&mut client, 3, 4);
        client
    });
    rig.wait_until(|snapshot| snapshot.disks.iter().any(|disk| disk.parked > 0));
    rig.array.set_port(2, PortFault::None);
    let mut client = writer.join().unwrap();
    verify(&mut client, 3, 4);
    drop(client);
    assert!(rig.stop());
}

#[test]
fn without_a_path_and_without_patience_requests_fail_and_later_ones_succeed_again() {
    let rig = Rig::start("fail", NoPath::Fail);
    let mut client = rig.client();
    for port in 0..PORTS {
        rig.array.set_port(port, PortFault::Reset);
    }
    rig.wait_for_paths(0);
    assert!(client.write(0, &content(1, 0), Durability::Volatile).is_err());
    rig.array.set_port(0, PortFault::None);
    rig.wait_for_paths(1);
    write(&mut client, 2, 1);
    verify(&mut client, 2, 1);
    drop(client);
    assert!(rig.stop());
}

#[test]
fn a_disk_follows_the_access_states_of_the_array() {
    let rig = Rig::start("alua", NoPath::Fail);
    let mut client = rig.client();
    let set = |group, state| rig.array.tell(array::Event::SetAccess { group: array::GroupId(group), state });
    set(1, AccessState::Standby);
    set(2, AccessState::NonOptimized);
    // The change is learned from the unit attentions that these draw.
    write(&mut client, 1, 16);
    rig.wait_until(|snapshot| count(snapshot, "down") == 2 && count(snapshot, "non-optimized") == 2);
    set(1, AccessState::Optimized);
    verify(&mut client, 1, 16);
    rig.wait_until(|snapshot| count(snapshot, "optimized") == 2);
    drop(client);
    assert!(rig.stop());
}

#[test]
fn a_command_that_is_stuck_in_the_array_is_aborted_and_sent_again() {
    let rig = Rig::start("lost", NoPath::Fail);
    let mut client = rig.client();
    let fault = array::Fault {
        scope: array::Scope { class: array::Class::Write, ..array::Scope::default() },
        when: array::When::times(1),
        effect: array::Effect::Hold { place: array::Place::Queue, until: array::Until::Released },
    };
    rig.array.tell(array::Event::SetFault(array::FaultId(1), fault));
    write(&mut client, 1, 1);
    verify(&mut client, 1, 1);
    drop(client);
    assert!(rig.stop());
}

#[test]
fn a_logical_unit_that_is_busy_while_it_is_looked_for_is_found_later() {
    let rig = Rig::start("busy", NoPath::Fail);
    let busy = array::Fault {
        scope: array::Scope {
            port: Some(array::PortId(2)),
            class: array::Class::Operation(INQUIRY),
            ..array::Scope::default()
        },
        when: array::When::ALWAYS,
        effect: array::Effect::Reply(scsi::Reply { status: scsi::Status::Busy, ..scsi::Reply::good() }),
    };
    rig.array.tell(array::Event::SetFault(array::FaultId(1), busy));
    rig.array.set_port(1, PortFault::Reset);
    rig.array.set_port(1, PortFault::None);
    rig.wait_for_notice("LUN 0 is not used");
    rig.wait_for_paths(PORTS - 1);
    rig.array.tell(array::Event::ClearFault(array::FaultId(1)));
    rig.wait_for_paths(PORTS);
    assert!(rig.stop());
}

#[test]
fn the_policy_can_change_while_requests_are_on_their_way() {
    let rig = Rig::start("policy", NoPath::Fail);
    let mut client = rig.client();
    for (version, policy) in (1..).zip([Policy::Numa, Policy::QueueDepth, Policy::RoundRobin, Policy::Numa]) {
        rig.shard.send(Message::Policy(policy)).unwrap();
        write(&mut client, version, 32);
        verify(&mut client, version, 32);
    }
    rig.wait_until(|snapshot| snapshot.disks[0].policy == "numa");
    drop(client);
    assert!(rig.stop());
}

#[test]
fn a_shard_that_is_told_to_end_does_so_with_a_client_connected() {
    let rig = Rig::start("end", NoPath::Queue);
    let mut client = rig.client();
    write(&mut client, 1, 8);
    let socket = rig.socket.clone();
    assert!(rig.stop());
    assert!(!socket.exists());
    assert!(client.write(0, &content(2, 0), Durability::Volatile).is_err());
}

#[test]
fn a_shard_fences_what_the_one_before_it_may_have_left_and_leaves_nothing_itself() {
    let rig = Rig::start("before", NoPath::Queue);
    let (_, mut config) = configuration(&rig.array, "after", NoPath::Queue);
    let folder = std::env::temp_dir().join(format!("smpath-engine-{}-state", std::process::id()));
    config.state = Some(folder.clone());
    // Nobody left anything: it only remembers what it does itself.
    let (first, notices) = ShardHandle::start(config.clone()).unwrap();
    let limit = Instant::now() + PATIENCE;
    while first.snapshot().unwrap().disks.iter().all(|disk| disk.paths.len() < PORTS) {
        assert!(Instant::now() < limit, "{:#?}", first.snapshot());
        let _ = notices.recv_timeout(Duration::from_millis(5));
    }
    let state = std::fs::read(folder.join("state")).unwrap();
    let remembered = host::state::State::decode(&state).unwrap();
    assert_eq!(remembered.nexuses.iter().map(|nexus| nexus.units.len()).sum::<usize>(), PORTS);
    first.stop();
    assert!(notices.iter().any(|notice| notice.kind == NoticeKind::Ended { clean: true }));
    let nothing = host::state::State::default().encode();
    assert_eq!(std::fs::read(folder.join("state")).unwrap(), nothing);
    // The same, had it died.
    std::fs::write(folder.join("state"), state).unwrap();
    let (second, notices) = ShardHandle::start(config).unwrap();
    while second.snapshot().unwrap().disks.iter().all(|disk| disk.fences_proved < PORTS as u64) {
        assert!(Instant::now() < limit, "{:#?}", second.snapshot());
        let _ = notices.recv_timeout(Duration::from_millis(5));
    }
    second.stop();
    assert!(notices.iter().any(|notice| notice.kind == NoticeKind::Ended { clean: true }));
    std::fs::remove_dir_all(folder).unwrap();
    assert!(rig.stop());
}

#[test]
fn a_client_that_connects_after_a_disk_has_grown_sees_the_new_size() {
    let rig = Rig::start("grown", NoPath::Queue);
    let mut before = rig.client();
    assert_eq!(before.export().size, 16 << 20);
    rig.array.tell(array::Event::Resize { unit: array::UnitId(0), size: 32 << 20 });
    // The next command meets the unit attention.
    let mut block = [0; BLOCK];
    before.read(0, &mut block).unwrap();
    rig.wait_until(|snapshot| snapshot.disks[0].size == 32 << 20);
    let mut after = rig.client();
    assert_eq!(after.export().size, 32 << 20);
    after.write((32 << 20) - BLOCK as u64, &block, Durability::Volatile).unwrap();
    assert!(rig.stop());
}

#[test]
fn replies_that_a_client_takes_late_all_reach_it() {
    const READ: u32 = 1 << 20;
    let rig = Rig::start("late", NoPath::Queue);
    let mut client = rig.client();
    client.write(0, &[9; BLOCK], Durability::Volatile).unwrap();
    let stream = UnixStream::connect(&rig.socket).unwrap();
    let options = Options { export: String::new(), replies: Replies::Structured };
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let second = stream.try_clone().unwrap();
    let (mut sender, mut receiver) = Client::connect(stream, &options).unwrap().split(second);
    // More than a Unix socket holds.
    let mut reads = vec![Destination { offset: 0, data: vec![0; READ as usize] }; 16];
    for cookie in 0..16 {
        sender.send(cookie, &Command::Read { offset: 0, length: READ }).unwrap();
    }
    // Another client is served meanwhile.
    rig.wait_until(|snapshot| snapshot.disks[0].paths.iter().all(|path| path.in_flight == 0));
    client.read(0, &mut [0; BLOCK]).unwrap();
    for _ in 0..16 {
        assert_eq!(receiver.receive(&mut reads).unwrap().result, Ok(()));
    }
    assert!(reads.iter().all(|read| read.data[..BLOCK] == [9; BLOCK]));
    sender.disconnect().unwrap();
    drop(client);
    rig.stop();
}

#[test]
fn a_client_whose_disk_was_removed_is_told_and_hung_up_on() {
    let rig = Rig::start("removed", NoPath::Queue);
    let mut client = rig.client();
    rig.array.tell(array::Event::RemoveUnit(array::UnitId(0)));
    let mut block = [0; BLOCK];
    assert!(client.read(0, &mut block).is_err());
    rig.wait_until(|snapshot| snapshot.disks.is_empty() && snapshot.clients == 0);
    let events = rig.shard.events(0, None).unwrap().events;
    let codes: Vec<&str> = events.iter().map(|event| event.code.as_str()).collect();
    assert!(codes.contains(&"path-removed") && codes.contains(&"disk-removed"), "{codes:?}");
    rig.stop();
}

#[test]
fn a_failover_is_told_with_its_times_and_its_fence() {
    let rig = Rig::start("failover", NoPath::Queue);
    let mut client = rig.client();
    let fault = array::Fault {
        scope: array::Scope { class: array::Class::Write, ..array::Scope::default() },
        when: array::When::times(1),
        effect: array::Effect::LoseStatus,
    };
    rig.array.tell(array::Event::SetFault(array::FaultId(1), fault));
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| client.write(0, &[7; BLOCK], Durability::Volatile));
        rig.wait_until(|snapshot| snapshot.disks[0].paths.iter().any(|path| path.in_flight > 0));
        // The path that carries the write is the only one with something in flight.
        let snapshot = rig.shard.snapshot().unwrap();
        let busy = snapshot.disks[0].paths.iter().find(|path| path.in_flight > 0).unwrap().portal;
        let port = rig.array.addresses().iter().position(|address| *address == busy).unwrap();
        rig.array.set_port(port, PortFault::Reset);
        writing.join().unwrap().unwrap();
        rig.array.set_port(port, PortFault::None);
    });
    rig.wait_until(|snapshot| !snapshot.disks[0].failovers.is_empty());
    let snapshot = rig.shard.snapshot().unwrap();
    let failover = &snapshot.disks[0].failovers[0];
    assert_eq!((failover.touched, failover.resent, failover.failed, failover.unfinished), (1, 1, 0, 0));
    assert_eq!((failover.cause.as_str(), failover.fence.as_str()), ("connection-lost", "proved"));
    let events = rig.shard.events(0, Some(snapshot.disks[0].identity.clone())).unwrap().events;
    let event = events.iter().find(|event| event.code == "failover").expect("it is an event");
    assert!(event.text.contains("1 requests touched, 1 sent again"), "{}", event.text);
    assert!(rig.stop());
}
