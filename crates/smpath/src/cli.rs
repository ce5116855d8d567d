//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use engine::config::{
    Digests, EarlyData, ExportAddress, FencePolicy, Hedging, Multipath, Sharing, SlowPaths,
};
use engine::{NoPath, Policy};

use crate::state::{self, State};
use crate::{units, url};

/// SCSI multipath in userspace: many iSCSI paths in, one disk out.
#[derive(Debug, Parser)]
#[command(name = "smpath", version, propagate_version = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Try it: an embedded array with four paths, and one disk over them on an NBD socket
    Demo(Demo),
    /// Log in to targets, group their paths by logical unit, and serve one disk for each
    Run(Run),
    /// Serve the embedded array to any iSCSI initiator
    Array(Array),
    /// Write and read back stamped blocks on any NBD disk; fail on any error or mismatch. Overwrites everything on it
    Check(Check),
    /// List the disks of a running smpath
    List(Query),
    /// Show one disk of a running smpath: its facts, its paths and their state
    Show(Show),
    /// List the paths of a running smpath
    Paths(Query),
    /// Change the access states of an embedded array, or list them
    Alua(Alua),
    /// Show what happened in a running smpath, in order; a disk may be named
    Events(Events),
    /// Say which path of a disk the next read takes and why the others do not, and what waits for what
    Explain(Explain),
    /// Set the iopolicy of a disk, or of all: numa, round-robin, queue-depth or latency
    Policy(SetPolicy),
    /// Set what happens to requests of a disk, or of all, while there is no path: fail, queue, or a time such as 60s
    NoPath(SetNoPath),
    /// Set how long a disk, or all of them, outlive their last path
    RemovalDelay(SetRemovalDelay),
    /// Do not use a path until it is reinstated
    Fail(Fail),
    /// Use a path again that was failed or drained, once its identity was read
    Reinstate(Reinstate),
    /// Take a path, or a portal, out so that it may be unplugged: see that the others work, send it nothing new, wait
    /// for what is in flight
    Drain(Drain),
    /// Look anew for logical units behind a portal, or behind all, and for portals
    Rescan(Rescan),
    /// End the open fences of a disk on your word: no old write is left that could still be executed
    Waive(Waive),
}

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// End after this time, such as 20s or 5m; without it, run until interrupted
    #[arg(long = "for", value_name = "TIME", value_parser = units::duration)]
    pub duration: Option<Duration>,
    /// Write and read back stamped blocks while paths are cut and restored; fail on any error or mismatch
    #[arg(long)]
    pub check: bool,
    /// Size of the disk
    #[arg(long, default_value = "256M", value_parser = units::size)]
    pub size: u64,
    /// Serve the disk on this unix socket instead of one in a new folder
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Which path takes a request: numa, round-robin, queue-depth or latency
    #[arg(long, default_value_t = Policy::QueueDepth)]
    pub policy: Policy,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// Portals to ask for targets (HOST[:PORT], comma-separated), or single logical units as
    /// iscsi://HOST[:PORT]/TARGET[/LUN]; may be given many times
    #[arg(long = "target", value_name = "TARGET", value_delimiter = ',')]
    pub targets: Vec<String>,
    /// More targets, in the same words
    #[arg(value_name = "URL")]
    pub more_targets: Vec<String>,
    /// Where to serve the disks: nbd+unix:///PATH or nbd://ADDRESS:PORT; may be given many times
    #[arg(long = "export", value_name = "URI", value_parser = url::export)]
    pub exports: Vec<ExportAddress>,
    /// Take everything from this TOML file; options given as well override it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Use only these logical unit numbers
    #[arg(long = "lun", value_name = "LUN", value_delimiter = ',')]
    pub luns: Vec<u16>,
    /// Use only these logical units (naa.…, eui.…, t10.… as `smpath list` prints them)
    #[arg(long = "wwid", value_name = "ID", value_delimiter = ',')]
    pub identities: Vec<String>,
    /// Which path takes a request: latency (the default), queue-depth, round-robin or numa
    #[arg(long)]
    pub policy: Option<Policy>,
    /// What is done about a path that is far slower than the others: demote (it is used only if there is no other, the
    /// default) or ignore
    #[arg(long, value_name = "demote|ignore", value_parser = units::slow_paths)]
    pub slow_paths: Option<SlowPaths>,
    /// Send reads that take longer than nearly all on a second path as well: off (the default), or at most so many of a
    /// hundred reads, such as 2%
    #[arg(long, value_name = "off|PERCENT", value_parser = units::hedging)]
    pub hedge_reads: Option<Hedging>,
    /// What happens to requests while there is no path: fail, queue, or queue for a time such as 60s
    #[arg(long, value_parser = units::no_path)]
    pub no_path: Option<NoPath>,
    /// What waits when a path is lost with writes in flight. bounded: later writes to the same blocks, until the
    /// target proves that it has let go of the old ones, or until this time (30s) is over; strict: until the proof,
    /// or until `smpath waive`; unsafe: nothing, and an old write can overwrite newer data
    #[arg(long, value_name = "bounded[:TIME]|strict|unsafe", value_parser = units::fence)]
    pub fence: Option<FencePolicy>,
    /// Which logical units are served over several paths: always (all of them, the default), on (those that report
    /// target port groups), or off (none: each over the first path that is found)
    #[arg(long, value_name = "off|on|always")]
    pub multipath: Option<Multipath>,
    /// Who changes access states: implicit (the array alone, the default), or explicit (when no optimized path is
    /// usable, a group that could serve is also told to become optimized, by SET TARGET PORT GROUPS)
    #[arg(long, value_name = "implicit|explicit", value_parser = units::alua)]
    pub alua: Option<engine::config::Alua>,
    /// Ask each path that was idle for this time whether it is ready (TEST UNIT READY), or off (the default)
    #[arg(long, value_name = "off|TIME", value_parser = units::path_check)]
    pub path_check: Option<units::PathCheck>,
    /// Who writes to the logical units: exclusive (only this process, the default) or shared (other hosts too: then
    /// a write whose path was lost waits for the fence before it is sent again)
    #[arg(long, value_name = "exclusive|shared", value_parser = units::sharing)]
    pub sharing: Option<Sharing>,
    /// Whether a write may carry data before the target asks for them: on (as the target allows, the default), or
    /// off: one more round trip for each write, and a write that was not asked for its data cannot come late
    #[arg(long, value_name = "on|off", value_parser = units::early_data)]
    pub early_data: Option<EarlyData>,
    /// Remember under this folder which sessions may have writes in flight, so that the next smpath fences them
    /// before it writes; or none. Default: $STATE_DIRECTORY, /var/lib/smpath for root, else
    /// $XDG_STATE_HOME/smpath or ~/.local/state/smpath
    #[arg(long, value_name = "DIR|none", value_parser = state::state)]
    pub state: Option<State>,
    /// Our iSCSI name; made from the host's name if not given
    #[arg(long, value_name = "IQN")]
    pub initiator_name: Option<String>,
    /// File with CHAP credentials (TOML: name, secret, and for mutual CHAP target_name, target_secret).
    /// Instead: SMPATH_CHAP_NAME, SMPATH_CHAP_SECRET, SMPATH_CHAP_TARGET_NAME, SMPATH_CHAP_TARGET_SECRET
    #[arg(long, value_name = "FILE")]
    pub chap_file: Option<PathBuf>,
    /// CRC32C digests to ask for: none, header, or header,data
    #[arg(long, value_parser = units::digests)]
    pub digests: Option<Digests>,
    /// Where `smpath list` and the others find this process
    #[arg(long, value_name = "PATH")]
    pub control: Option<PathBuf>,
    /// Use the first path as it is, without the multipath layer: for measuring what that layer costs
    #[arg(long)]
    pub direct: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Array {
    /// Addresses to listen on, comma-separated; the first half belongs to controller A, the rest to B
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        value_delimiter = ',',
        default_value = "127.0.0.1:3260,127.0.0.1:3261,127.0.0.1:3262,127.0.0.1:3263"
    )]
    pub portals: Vec<String>,
    /// A logical unit: size=64M[,file=PATH][,block=512|4096][,serial=TEXT][,id=NUMBER][,thin][,read-only]
    /// [,rpm=NUMBER][,no-identity][,owner=a|b|turns][,count=NUMBER]; may be given many times. The owner's port group is optimized and preferred,
    /// the other controller's non-optimized
    #[arg(long = "lu", value_name = "OPTIONS", default_value = "size=64M", value_parser = units::unit)]
    pub units: Vec<units::Unit>,
    /// Target name
    #[arg(long, default_value = "iqn.2026-11.org.smpath:array")]
    pub target_name: String,
    /// File with CHAP credentials that initiators must show (TOML: name, secret[, target_name, target_secret])
    #[arg(long, value_name = "FILE")]
    pub chap_file: Option<PathBuf>,
    /// What a login that replaces a session, and a LOGICAL UNIT RESET, are worth: for tests of initiators
    #[arg(long, value_name = "PROFILE", default_value = "honest")]
    pub profile: Profile,
    /// Keep a write that begins with GHOST-OF-A-WRITE in the back end for this time before it is executed, the first
    /// time that its block is written so; aborts and resets cannot recall it
    #[arg(long, value_name = "TIME", value_parser = units::duration, conflicts_with = "stick_one_in")]
    pub stick_marked: Option<Duration>,
    /// The same for one write in N, whatever is in it
    #[arg(long, value_name = "N:TIME", value_parser = units::count_and_time)]
    pub stick_one_in: Option<(u64, Duration)>,
    /// Every read and write through this portal takes longer by TIME; PORT is its place in --portals, counted from 1;
    /// may be given many times
    #[arg(long, value_name = "PORT:TIME", value_parser = units::count_and_time)]
    pub slow: Vec<(u64, Duration)>,
    /// Every read through this portal fails, and everything else works: the path that monitors find healthy; may be given
    /// many times
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub fail_reads: Vec<u16>,
    /// Who may change the access states of its port groups
    #[arg(long, value_name = "WHO", default_value = "implicit")]
    pub tpgs: Tpgs,
    /// Where `smpath alua` finds this array
    #[arg(long, value_name = "PATH")]
    pub control: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Tpgs {
    /// Nobody: it does not say that it has port groups
    None,
    /// The array
    Implicit,
    /// The array, and initiators by SET TARGET PORT GROUPS
    Both,
}

impl From<Tpgs> for engine::array::AccessChanges {
    fn from(tpgs: Tpgs) -> Self {
        match tpgs {
            Tpgs::None => Self::None,
            Tpgs::Implicit => Self::Implicit,
            Tpgs::Both => Self::ImplicitAndExplicit,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Alua {
    /// Control socket of the array, as given to it
    #[arg(long, value_name = "PATH")]
    pub control: PathBuf,
    /// The target port group: 1 for controller A, 2 for B. Without it, the array says how its groups stand
    #[arg(long, value_name = "NUMBER")]
    pub group: Option<u16>,
    /// Its access state from now on
    #[arg(long, requires = "group")]
    pub state: Option<AccessState>,
    /// Of this logical unit only
    #[arg(long, requires = "group", value_name = "LUN")]
    pub lun: Option<u16>,
    /// Make it the preferred group (PREF)
    #[arg(long, requires = "group")]
    pub preferred: bool,
    /// Machine-readable output
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum AccessState {
    Optimized,
    NonOptimized,
    Standby,
    Unavailable,
    LbaDependent,
    Offline,
    Transitioning,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Profile {
    /// Both are answered when nothing that they end can change the medium any more
    Honest,
    /// The login is answered at once, the reset is honest: as tgt and SPDK do
    AnswersAtOnce,
    /// Both are answered at once: nobody can keep data safe by asking such a target
    LyingReset,
    /// Two honest controllers that know nothing of each other's commands, over one medium
    Gateways,
}

impl From<Profile> for engine::Profile {
    fn from(profile: Profile) -> Self {
        match profile {
            Profile::Honest => Self::Honest,
            Profile::AnswersAtOnce => Self::AnswersAtOnce,
            Profile::LyingReset => Self::LyingReset,
            Profile::Gateways => Self::Gateways,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The server: nbd+unix:///PATH or nbd://ADDRESS:PORT
    #[arg(value_name = "URI", value_parser = url::export)]
    pub server: ExportAddress,
    /// Name of the export; the server's default if not given
    #[arg(long, value_name = "NAME", default_value = "")]
    pub disk: String,
    /// Everything on the disk may be overwritten
    #[arg(long)]
    pub overwrite: bool,
    /// End after this time, such as 20s or 5m; without it, run until interrupted. Either way everything is read back
    #[arg(long = "for", value_name = "TIME", value_parser = units::duration)]
    pub duration: Option<Duration>,
    /// When the server goes away, wait for its return and send again what was not acknowledged
    #[arg(long)]
    pub reconnect: bool,
    /// Makes the order of requests; the same seed draws the same
    #[arg(long, value_name = "NUMBER", default_value_t = 0x5eed)]
    pub seed: u64,
    /// Machine-readable output
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Query {
    /// Machine-readable output
    #[arg(long)]
    pub json: bool,
    /// Control socket of the process to ask
    #[arg(long, value_name = "PATH")]
    pub control: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The disk: its identity or its beginning; not needed if there is only one
    pub disk: Option<String>,
    #[command(flatten)]
    pub query: Query,
}

#[derive(Debug, Args)]
pub(crate) struct Events {
    /// Only events of this disk: its identity or its beginning
    pub disk: Option<String>,
    /// Wait for more, until interrupted
    #[arg(long)]
    pub follow: bool,
    /// Only events after this sequence number
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub since: u64,
    /// Machine-readable output: one JSON object on each line
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub control: ControlSocket,
}

#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// The disk: its identity or its beginning; or a path (P3, DISK:P3), or the paths of a portal (ADDRESS[:PORT])
    pub name: Option<String>,
    #[command(flatten)]
    pub query: Query,
}

/// Whom to tell.
#[derive(Debug, Args)]
pub(crate) struct ControlSocket {
    /// Control socket of the process
    #[arg(long = "control", value_name = "PATH")]
    pub socket: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct SetPolicy {
    /// The disk: its identity or its beginning; or all, for those that are found later as well
    pub disk: String,
    pub policy: Policy,
    #[command(flatten)]
    pub control: ControlSocket,
}

#[derive(Debug, Args)]
pub(crate) struct SetNoPath {
    /// The disk: its identity or its beginning; or all, for those that are found later as well
    pub disk: String,
    #[arg(value_name = "fail|queue|TIME", value_parser = no_path_words)]
    pub no_path: String,
    #[command(flatten)]
    pub control: ControlSocket,
}

#[derive(Debug, Args)]
pub(crate) struct SetRemovalDelay {
    /// The disk: its identity or its beginning; or all, for those that are found later as well
    pub disk: String,
    #[arg(value_name = "TIME", value_parser = units::duration)]
    pub delay: Duration,
    #[command(flatten)]
    pub control: ControlSocket,
}

#[derive(Debug, Args)]
pub(crate) struct Fail {
    /// The path: P3, DISK:P3, or ADDRESS[:PORT] for all of a portal
    pub path: String,
    /// Even if a disk is left without a usable path
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub control: ControlSocket,
}

#[derive(Debug, Args)]
pub(crate) struct Reinstate {
    /// The path: P3, DISK:P3, or ADDRESS[:PORT] for all of a portal
    pub path: String,
    #[command(flatten)]
    pub control: ControlSocket,
}

#[derive(Debug, Args)]
pub(crate) struct Drain {
    /// The path: P3, DISK:P3, or ADDRESS[:PORT] for all of a portal
    pub path: String,
    /// Do not look whether anything else works
    #[arg(long)]
    pub force: bool,
    /// How long to wait for what is in flight
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = units::duration)]
    pub timeout: Duration,
    #[command(flatten)]
    pub control: ControlSocket,
}

#[derive(Debug, Args)]
pub(crate) struct Rescan {
    /// ADDRESS[:PORT]; all portals if not given
    pub portal: Option<String>,
    #[command(flatten)]
    pub control: ControlSocket,
}

/// Only if you know it: the sessions of the lost paths are gone at the target, or the target was restarted. If you are
/// wrong, an old write can overwrite newer data.
#[derive(Debug, Args)]
pub(crate) struct Waive {
    /// The disk: its identity or its beginning
    pub disk: String,
    /// Control socket of the process to tell
    #[arg(long, value_name = "PATH")]
    pub control: Option<PathBuf>,
}

/// Checks that the words stand for a no-path policy, and keeps them: they go to the process as they are.
fn no_path_words(text: &str) -> Result<String, String> {
    units::no_path(text).map(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(words: &str) -> Run {
        let line = ["smpath", "run"].into_iter().chain(words.split_whitespace());
        match Cli::try_parse_from(line).unwrap().command {
            Command::Run(run) => run,
            other => panic!("{other:?}"),
        }
    }

    /// A value whose type is not what clap takes it for is found out only when it is read.
    #[test]
    fn every_option_of_run_takes_its_value() {
        let run = run(
            "--target 10.0.0.1 --export nbd://127.0.0.1:10809 --config f --lun 0 --wwid naa.6 --policy numa \
             --slow-paths ignore --hedge-reads 2% --no-path 60s --fence strict --multipath on --alua explicit \
             --path-check 60s --sharing shared --early-data off --state none --initiator-name iqn.2026-11.org.smpath:host \
             --chap-file f --digests header --control c",
        );
        assert_eq!(run.path_check, Some(Some(Duration::from_secs(60))));
    }

    #[test]
    fn off_is_a_path_check_that_was_asked_for() {
        assert_eq!(run("--path-check off").path_check, Some(None));
        assert_eq!(run("").path_check, None);
    }
}
