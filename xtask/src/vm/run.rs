//! `xtask vm run`: boots the guest, runs one command in it, and ends as the command did.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::build::{Cache, Image};
use crate::harness::room::Room;

/// The guest has to be gone by then, whatever it does.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(300);

/// Between two looks at what the guest said.
const POLL: Duration = Duration::from_millis(20);

/// What the guest has. Its file system is in it too.
const MEMORY: &str = "1G";

/// So much of the console is shown when a guest dies.
const CONSOLE_LINES: usize = 40;

/// Our exit status when the time is over, as timeout(1) has it.
const TIMED_OUT: u8 = 124;

/// Our exit status when the guest ends without saying how the command ended.
const GUEST_DIED: u8 = 125;

/// What the emulated kernel is told.
const PARAMETERS: &str = "console=ttyS0 quiet panic=-1 mitigations=off nokaslr no_timer_check tsc=reliable \
                          random.trust_cpu=on cryptomgr.notests";

/// How the guest's instructions are executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accelerator {
    /// QEMU translates them: any kernel, slowly.
    Tcg,
    /// The kernel is a program of the host: fast, but it has to be compiled for that.
    Uml,
}

/// A folder of the host and where the guest finds it.
#[derive(Clone, Debug)]
pub(super) struct Share {
    pub(super) host: PathBuf,
    pub(super) guest: String,
}

#[derive(Debug)]
pub(super) struct Options {
    pub(super) accelerator: Option<Accelerator>,
    pub(super) shares: Vec<Share>,
    pub(super) timeout: Duration,
    pub(super) command: Vec<String>,
}

/// `xtask vm run [OPTION]... -- COMMAND...`.
pub(crate) fn command(arguments: &[String]) -> Result<ExitCode> {
    Ok(ExitCode::from(run(&Options::parse(arguments)?)?))
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self> {
        let mut options =
            Self { accelerator: None, shares: Vec::new(), timeout: TIMEOUT_DEFAULT, command: Vec::new() };
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} needs a value"));
            match word.as_str() {
                "--accel" => options.accelerator = accelerator(value()?)?,
                "--share" => options.shares.push(Share::parse(value()?)?),
                "--timeout" => options.timeout = Duration::from_secs(value()?.parse()?),
                "--" => options.command = words.by_ref().cloned().collect(),
                other => bail!("`{other}` is no option; the command comes behind `--`"),
            }
        }
        ensure!(!options.command.is_empty(), "no command behind `--`");
        Ok(options)
    }
}

/// `None`: whichever has been built, the faster one first.
pub(super) fn accelerator(word: &str) -> Result<Option<Accelerator>> {
    match word {
        "auto" => Ok(None),
        "tcg" => Ok(Some(Accelerator::Tcg)),
        "uml" => Ok(Some(Accelerator::Uml)),
        _ => bail!("--accel takes tcg, uml or auto"),
    }
}

impl Share {
    fn parse(word: &str) -> Result<Self> {
        let (host, guest) = word.split_once(':').unwrap_or((word, "/share"));
        let host = fs::canonicalize(host).with_context(|| format!("{host} cannot be shared"))?;
        Ok(Self { host, guest: guest.to_owned() })
    }
}

/// Runs the command; its standard output and errors come out of ours. Returns the status to end with.
pub(super) fn run(options: &Options) -> Result<u8> {
    let room = Room::new()?;
    let control = room.path("control");
    prepare(&control, options)?;
    let console = room.path("console");
    let mut guest = Guest(start(options, &control, &console)?);
    let mut streams = [
        Stream::new(&control.join("stdout"), std::io::stdout())?,
        Stream::new(&control.join("stderr"), std::io::stderr())?,
    ];
    let end = Instant::now() + options.timeout;
    let mut in_time = true;
    while in_time && guest.0.try_wait()?.is_none() {
        streams.iter_mut().try_for_each(Stream::forward)?;
        in_time = Instant::now() < end;
        thread::sleep(POLL);
    }
    drop(guest);
    streams.iter_mut().try_for_each(Stream::forward)?;
    let status = fs::read_to_string(control.join("status")).ok();
    match status.and_then(|status| status.trim().parse().ok()) {
        Some(status) => Ok(status),
        None => {
            let why =
                if in_time { "died".to_owned() } else { format!("was not done after {:?}", options.timeout) };
            eprintln!("xtask: the guest {why}; the end of its console:\n{}", last_lines(&console));
            Ok(if in_time { GUEST_DIED } else { TIMED_OUT })
        }
    }
}

/// What the guest's first process reads.
fn prepare(control: &Path, options: &Options) -> Result<()> {
    fs::create_dir(control)?;
    let line = |(number, share): (usize, &Share)| {
        format!("share{number} {} {}\n", share.host.display(), share.guest)
    };
    fs::write(control.join("shares"), options.shares.iter().enumerate().map(line).collect::<String>())?;
    let words: Vec<String> = options.command.iter().map(|word| quoted(word)).collect();
    fs::write(control.join("command"), words.join(" ") + "\n")?;
    for stream in ["stdout", "stderr"] {
        File::create(control.join(stream))?;
    }
    Ok(())
}

/// As one word of a shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn start(options: &Options, control: &Path, console: &Path) -> Result<Child> {
    let cache = Cache::locate()?;
    let wanted = options.accelerator;
    let words = match (cache.uml(), cache.tcg(), cache.qemu()) {
        (Some(image), ..) if wanted != Some(Accelerator::Tcg) => uml(&image, control),
        (_, Some(image), Some(qemu)) if wanted != Some(Accelerator::Uml) => {
            tcg(qemu, &image, control, options)
        }
        _ if wanted == Some(Accelerator::Uml) => bail!("there is no guest: `xtask vm build --uml` makes it"),
        _ => bail!("there is no guest: `xtask vm build` makes it"),
    };
    let output = File::create(console)?;
    // Whoever ends us, in whatever way, ends the guest.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).args(words);
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    command.env("TMPDIR", memory_folder());
    command.spawn().context("setpriv does not start")
}

/// User-mode Linux keeps its memory in a file.
fn memory_folder() -> PathBuf {
    let shm = PathBuf::from("/dev/shm");
    if shm.is_dir() { shm } else { std::env::temp_dir() }
}

fn uml(image: &Image, control: &Path) -> Vec<String> {
    let folder = control.parent().unwrap_or(control);
    vec![
        image.kernel.display().to_string(),
        format!("mem={MEMORY}"),
        format!("initrd={}", image.initramfs.display()),
        format!("uml_dir={}", folder.display()),
        format!("guest_control={}", control.display()),
        "con=null".to_owned(),
        "con0=fd:0,fd:1".to_owned(),
        "seccomp=auto".to_owned(),
        "quiet".to_owned(),
        "panic=-1".to_owned(),
    ]
}

fn tcg(mut qemu: Vec<String>, image: &Image, control: &Path, options: &Options) -> Vec<String> {
    let fixed = "-nodefaults -no-user-config -display none -no-reboot -M q35,usb=off,smm=off -cpu max -smp 2 \
                 -accel tcg,thread=multi,tb-size=256 -monitor none -serial stdio";
    qemu.extend(fixed.split_whitespace().map(str::to_owned));
    qemu.extend(["-m".to_owned(), MEMORY.to_owned()]);
    qemu.extend(["-kernel".to_owned(), image.kernel.display().to_string()]);
    qemu.extend(["-initrd".to_owned(), image.initramfs.display().to_string()]);
    qemu.extend(["-append".to_owned(), PARAMETERS.to_owned()]);
    let shares = options.shares.iter().enumerate();
    let shares = shares.map(|(number, share)| (format!("share{number}"), share.host.as_path()));
    for (tag, path) in std::iter::once(("control".to_owned(), control)).chain(shares) {
        let path = path.display();
        let backend = format!("local,id={tag},path={path},security_model=none,multidevs=remap");
        qemu.extend(["-fsdev".to_owned(), backend]);
        qemu.extend(["-device".to_owned(), format!("virtio-9p-pci,fsdev={tag},mount_tag={tag}")]);
    }
    qemu
}

/// The process of a guest; it ends with us.
struct Guest(Child);

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A file that the guest writes, on its way to a stream of ours.
struct Stream {
    from: File,
    to: Box<dyn Write>,
}

impl Stream {
    fn new(from: &Path, to: impl Write + 'static) -> Result<Self> {
        Ok(Self { from: File::open(from)?, to: Box::new(to) })
    }

    /// Passes on what is new.
    fn forward(&mut self) -> Result<()> {
        let mut bytes = Vec::new();
        self.from.read_to_end(&mut bytes)?;
        self.to.write_all(&bytes)?;
        Ok(self.to.flush()?)
    }
}

fn last_lines(console: &Path) -> String {
    let text =
        fs::read(console).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(CONSOLE_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options> {
        Options::parse(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn the_command_is_what_stands_behind_two_dashes() {
        let options = parse("--accel uml --share /:/host --timeout 5 -- ls --accel x").unwrap();
        assert_eq!(options.accelerator, Some(Accelerator::Uml));
        assert_eq!(
            (options.shares[0].host.as_path(), options.shares[0].guest.as_str()),
            (Path::new("/"), "/host")
        );
        assert_eq!(options.timeout, Duration::from_secs(5));
        assert_eq!(options.command, ["ls", "--accel", "x"]);
        assert!(parse("--accel auto").is_err(), "no command");
        assert!(parse("--accel kvm -- true").is_err());
        assert!(parse("true").is_err());
    }

    #[test]
    fn a_word_is_one_word_for_a_shell() {
        let word = "it's $HOME \"and\" more";
        let said =
            crate::harness::process::run("sh", ["-c", &format!("printf %s {}", quoted(word))], POLL * 100);
        assert_eq!(said.unwrap().stdout.trim_end(), word);
    }
}
