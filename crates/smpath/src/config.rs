//! From the command line and the configuration file to what a shard is told.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use engine::config::{
    Alua, ChapConfig, Digests, DiskConfig, EarlyData, ExportAddress, FencePolicy, Filter, Hedging,
    InitiatorConfig, Layer, Multipath, PortalConfig, ShardConfig, Sharing, SlowPaths,
};
use engine::{Lun, NoPath, Policy};
use serde::Deserialize;

use crate::cli::Run;
use crate::state::{self, State};
use crate::{units, url};

/// On equal paths no worse than any other, on unequal ones far better: see SPECIFICATION.md for what was measured.
pub(crate) const POLICY_DEFAULT: Policy = Policy::Latency;
/// How long I/O waits when every path is gone: longer than a controller takes to fail over, shorter than the
/// patience of a guest's file system.
const NO_PATH_DEFAULT: NoPath = NoPath::QueueFor(engine::clock::Duration::from_secs(60));

/// The configuration file. Every key may be left out; unknown ones are refused.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    #[serde(default)]
    targets: Vec<String>,
    #[serde(default)]
    exports: Vec<String>,
    #[serde(default)]
    luns: Vec<u16>,
    #[serde(default)]
    wwids: Vec<String>,
    policy: Option<String>,
    multipath: Option<String>,
    alua: Option<String>,
    path_check: Option<String>,
    slow_paths: Option<String>,
    hedge_reads: Option<String>,
    no_path: Option<String>,
    initiator_name: Option<String>,
    chap_file: Option<PathBuf>,
    digests: Option<String>,
    fence: Option<String>,
    sharing: Option<String>,
    early_data: Option<String>,
    state: Option<String>,
    control: Option<PathBuf>,
    login_timeout: Option<String>,
    nop_interval: Option<String>,
    nop_timeout: Option<String>,
    command_timeout: Option<String>,
}

/// CHAP credentials as they stand in a file of their own.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChapFile {
    name: String,
    secret: String,
    target_name: Option<String>,
    target_secret: Option<String>,
}

/// What `smpath run` works with.
#[derive(Debug)]
pub(crate) struct Settings {
    pub shard: ShardConfig,
    pub control: Option<PathBuf>,
    /// Where CHAP credentials come from, if from a file: they may be changed there while we run.
    pub chap_file: Option<PathBuf>,
    /// What whoever starts this should know, a line each.
    pub warnings: Vec<&'static str>,
}

/// Whether nexuses are remembered beyond this process.
enum Memory {
    In(PathBuf),
    /// Nobody wants it.
    Off,
    /// There is no place for it.
    Nowhere,
}

/// For [`FencePolicy::Unsafe`].
const UNSAFE_FENCE: &str =
    "fence = unsafe: when a path is lost, an old write can overwrite newer data; for tests only";
/// For a user without a home.
const NOTHING_REMEMBERED: &str = "sessions with writes in flight are not remembered beyond this process, because neither \
     XDG_STATE_HOME nor HOME is set: name a folder with --state, or say --state none";

/// Reads the file, if there is one, and lets the command line override it.
pub(crate) fn settings(run: &Run) -> Result<Settings> {
    let file = run.config.as_deref().map(read_file).transpose()?.unwrap_or_default();
    // Not parsed by clap: it would print what it refuses, and that may hold a secret.
    let mut targets = parse_all(&[&run.targets[..], &run.more_targets].concat(), "--target", url::target)?;
    if targets.is_empty() {
        targets = parse_all(&file.targets, "targets", url::target)?;
    }
    if targets.is_empty() {
        bail!("no target: name one with --target HOST[:PORT] or an iscsi:// URL, or in the file's `targets`");
    }
    let mut exports = run.exports.clone();
    if exports.is_empty() {
        exports = parse_all(&file.exports, "exports", url::export)?;
    }
    if exports.is_empty() {
        bail!("no export: say where to serve the disk with --export nbd+unix:///PATH or nbd://ADDRESS:PORT");
    }
    let luns = if run.luns.is_empty() { &file.luns } else { &run.luns };
    let identities = if run.identities.is_empty() { file.wwids.clone() } else { run.identities.clone() };
    let mut warnings = Vec::new();
    let fence = run.fence.or(optional(&file.fence, "fence", units::fence)?).unwrap_or_default();
    if fence == FencePolicy::Unsafe {
        warnings.push(UNSAFE_FENCE);
    }
    let state = match memory(run, &file, &exports[0])? {
        Memory::In(folder) => Some(folder),
        Memory::Off => None,
        Memory::Nowhere => {
            warnings.push(NOTHING_REMEMBERED);
            None
        }
    };
    let no_path = optional(&file.no_path, "no-path", units::no_path)?;
    let sharing = optional(&file.sharing, "sharing", units::sharing)?;
    let multipath = optional(&file.multipath, "multipath", |text| text.parse::<Multipath>())?;
    let alua = optional(&file.alua, "alua", units::alua)?;
    let path_check = optional(&file.path_check, "path-check", units::path_check)?;
    let slow_paths = optional(&file.slow_paths, "slow-paths", units::slow_paths)?;
    let hedging = optional(&file.hedge_reads, "hedge-reads", units::hedging)?;
    let shard = ShardConfig {
        initiator: initiator(run, &file)?,
        portals: resolve(&targets)?,
        exports,
        disks: DiskConfig {
            policy: run.policy.or(policy(&file)?).unwrap_or(POLICY_DEFAULT),
            no_path: run.no_path.or(no_path).unwrap_or(NO_PATH_DEFAULT),
            delayed_removal: engine::clock::Duration::ZERO,
            layer: if run.direct { Layer::Direct } else { Layer::Multipath },
            multipath: run.multipath.or(multipath).unwrap_or_default(),
            slow_paths: run.slow_paths.or(slow_paths).unwrap_or(SlowPaths::Demote),
            hedging: run.hedge_reads.or(hedging).unwrap_or_default(),
            sharing: run.sharing.or(sharing).unwrap_or_default(),
            fence,
            alua: run.alua.or(alua).unwrap_or_default(),
            path_check: run.path_check.or(path_check).flatten().map(Into::into),
        },
        filter: Filter { luns: luns.iter().copied().map(Lun::from).collect(), identities },
        state,
    };
    let chap_file = run.chap_file.clone().or(file.chap_file);
    Ok(Settings { shard, control: run.control.clone().or(file.control), chap_file, warnings })
}

/// Where nexuses are remembered.
fn memory(run: &Run, file: &File, first: &ExportAddress) -> Result<Memory> {
    let said = run.state.clone().or(optional(&file.state, "state", state::state)?);
    let is_root = rustix::process::geteuid().is_root();
    let base = match said {
        Some(State::None) => return Ok(Memory::Off),
        Some(State::Under(base)) => Some(base),
        None => state::default_base(|name| std::env::var_os(name), is_root),
    };
    Ok(base.map_or(Memory::Nowhere, |base| Memory::In(state::folder(&base, first))))
}

/// What every session has in common when nobody says otherwise.
pub(crate) fn default_initiator(name: String) -> InitiatorConfig {
    InitiatorConfig {
        name,
        chap: None,
        digests: Digests::None,
        login_timeout: Duration::from_secs(15),
        nop_interval: Duration::from_secs(2),
        nop_timeout: Duration::from_secs(2),
        command_timeout: Duration::from_secs(30),
        early_data: EarlyData::default(),
    }
}

/// `iqn.2026-11.org.smpath:HOSTNAME`.
pub(crate) fn default_initiator_name() -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase();
    let host: String =
        host.chars().filter(|letter| letter.is_ascii_alphanumeric() || "-.".contains(*letter)).collect();
    format!("iqn.2026-11.org.smpath:{}", if host.is_empty() { "host" } else { &host })
}

/// Reads CHAP credentials from a file that only its owner should be able to read.
pub(crate) fn chap_file(path: &Path) -> Result<ChapConfig> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read the CHAP file {}", path.display()))?;
    // The error of the parser would quote the line, and the line holds the secret.
    let file: ChapFile = toml::from_str(&text).map_err(|error| {
        anyhow::anyhow!(
            "{}: expected name, secret, and optionally target_name, target_secret, as TOML ({})",
            path.display(),
            error.message()
        )
    })?;
    chap(file.name, file.secret, file.target_name, file.target_secret)
}

fn chap(
    name: String,
    secret: String,
    target_name: Option<String>,
    target_secret: Option<String>,
) -> Result<ChapConfig> {
    let mutual = match (target_name, target_secret) {
        (Some(name), Some(secret)) => Some((name, secret.into_bytes())),
        (None, None) => None,
        _ => bail!("mutual CHAP needs both the target's name and the target's secret"),
    };
    Ok(ChapConfig { name, secret: secret.into_bytes(), mutual })
}

fn initiator(run: &Run, file: &File) -> Result<InitiatorConfig> {
    let mut initiator = default_initiator(initiator_name(run, file)?);
    let digests = optional(&file.digests, "digests", units::digests)?;
    initiator.digests = run.digests.or(digests).unwrap_or_default();
    let early_data = optional(&file.early_data, "early-data", units::early_data)?;
    initiator.early_data = run.early_data.or(early_data).unwrap_or_default();
    initiator.chap = match run.chap_file.as_ref().or(file.chap_file.as_ref()) {
        Some(path) => Some(chap_file(path)?),
        None => chap_environment()?,
    };
    for (text, key, into) in [
        (&file.login_timeout, "login-timeout", &mut initiator.login_timeout),
        (&file.nop_interval, "nop-interval", &mut initiator.nop_interval),
        (&file.nop_timeout, "nop-timeout", &mut initiator.nop_timeout),
        (&file.command_timeout, "command-timeout", &mut initiator.command_timeout),
    ] {
        if let Some(value) = optional(text, key, units::duration)? {
            if value.is_zero() {
                bail!("{key} must not be zero");
            }
            *into = value;
        }
    }
    Ok(initiator)
}

/// Targets map logical units to it, so that a wrong one is better told before the first login than by each of them.
fn initiator_name(run: &Run, file: &File) -> Result<String> {
    let (name, whose) = match (&run.initiator_name, &file.initiator_name) {
        (Some(name), _) => (name, "--initiator-name"),
        (None, Some(name)) => (name, "initiator-name"),
        (None, None) => return Ok(default_initiator_name()),
    };
    if let Err(error) = engine::config::check_name(name) {
        bail!("{whose} '{name}' is no iSCSI name: {error}; give one such as {}", default_initiator_name());
    }
    Ok(name.clone())
}

fn chap_environment() -> Result<Option<ChapConfig>> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    match (variable("SMPATH_CHAP_NAME"), variable("SMPATH_CHAP_SECRET")) {
        (None, None) => Ok(None),
        (Some(name), Some(secret)) => {
            let target_name = variable("SMPATH_CHAP_TARGET_NAME");
            chap(name, secret, target_name, variable("SMPATH_CHAP_TARGET_SECRET")).map(Some)
        }
        _ => bail!("CHAP needs both SMPATH_CHAP_NAME and SMPATH_CHAP_SECRET"),
    }
}

fn policy(file: &File) -> Result<Option<Policy>> {
    optional(&file.policy, "policy", |text| text.parse::<Policy>().map_err(|error| error.to_string()))
}

fn resolve(targets: &[url::Target]) -> Result<Vec<PortalConfig>> {
    let mut portals = Vec::new();
    for target in targets {
        portals.extend(target.resolve().map_err(anyhow::Error::msg)?);
    }
    Ok(portals)
}

fn read_file(path: &Path) -> Result<File> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    toml::from_str(&text).map_err(|error| {
        let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
        anyhow::anyhow!("{}, line {line}: {}", path.display(), error.message().trim())
    })
}

fn parse_all<T>(texts: &[String], key: &str, parse: fn(&str) -> Result<T, String>) -> Result<Vec<T>> {
    texts.iter().map(|text| parse(text).map_err(|error| anyhow::anyhow!("{key}: {error}"))).collect()
}

fn optional<T>(
    text: &Option<String>,
    key: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<T>> {
    text.as_deref().map(|text| parse(text).map_err(|error| anyhow::anyhow!("{key}: {error}"))).transpose()
}

/// Where a process is found when nobody says otherwise.
pub(crate) fn default_control() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(folder) if !folder.is_empty() => PathBuf::from(folder).join("smpath.sock"),
        _ if rustix::process::geteuid().is_root() => PathBuf::from("/run/smpath.sock"),
        _ => std::env::temp_dir().join(format!("smpath-{}.sock", rustix::process::geteuid().as_raw())),
    }
}

/// Resolves the addresses that the embedded array listens on.
pub(crate) fn listen_address(text: &str) -> Result<SocketAddr> {
    text.parse().with_context(|| format!("'{text}' is not ADDRESS:PORT, such as 127.0.0.1:3260"))
}

/// For the demonstration: one shard over one discovery portal.
pub(crate) fn demo_shard(portal: SocketAddr, socket: PathBuf, policy: Policy) -> ShardConfig {
    let mut initiator =
        default_initiator(format!("{}-demo-{}", default_initiator_name(), std::process::id()));
    // A demonstration should not make people wait for a black hole to be noticed.
    initiator.nop_interval = Duration::from_millis(400);
    initiator.nop_timeout = Duration::from_millis(400);
    ShardConfig {
        initiator,
        portals: vec![PortalConfig::Discover(portal)],
        exports: vec![ExportAddress::NbdUnix(socket)],
        disks: DiskConfig {
            policy,
            no_path: NO_PATH_DEFAULT,
            delayed_removal: engine::clock::Duration::ZERO,
            layer: Layer::Multipath,
            multipath: Multipath::default(),
            slow_paths: SlowPaths::Demote,
            hedging: Hedging::Off,
            sharing: Sharing::default(),
            fence: FencePolicy::default(),
            alua: Alua::Implicit,
            path_check: None,
        },
        filter: Filter::default(),
        state: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<File> {
        let path = std::env::temp_dir().join(format!("smpath-config-{:?}", std::thread::current().id()));
        fs::write(&path, text).unwrap();
        let file = read_file(&path);
        fs::remove_file(&path).unwrap();
        file
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line() {
        let error = read("policy = \"numa\"\n\ncolour = \"red\"\n").unwrap_err().to_string();
        assert!(error.contains("line 3") && error.contains("colour"), "{error}");
    }

    #[test]
    fn every_documented_key_is_known() {
        let text = r#"
            targets = ["10.0.0.1", "iscsi://10.0.0.2/iqn.2001-04.com.example:disk/1"]
            exports = ["nbd+unix:///run/disk.sock"]
            luns = [0, 1]
            wwids = ["naa.6001405abcdef0123456789abcdef012"]
            policy = "round-robin"
            slow-paths = "demote"
            hedge-reads = "2%"
            multipath = "on"
            alua = "explicit"
            path-check = "60s"
            no-path = "30s"
            initiator-name = "iqn.2026-11.org.smpath:host"
            chap-file = "/etc/smpath/chap.toml"
            digests = "header,data"
            fence = "bounded:45s"
            sharing = "shared"
            early-data = "off"
            state = "/var/lib/smpath"
            control = "/run/smpath.sock"
            login-timeout = "15s"
            nop-interval = "2s"
            nop-timeout = "2s"
            command-timeout = "30s"
        "#;
        let file = read(text).unwrap();
        assert_eq!(file.targets.len(), 2);
        assert_eq!(policy(&file).unwrap(), Some(Policy::RoundRobin));
    }
}
