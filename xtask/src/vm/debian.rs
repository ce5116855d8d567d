//! Packages of the guest's distribution, fetched and unpacked beside the host's own: apt keeps its state in a folder of
//! ours, so nothing is installed and nobody has to be root.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::harness::process::{Finished, run};

/// For the lists of one suite.
const UPDATE_LIMIT: Duration = Duration::from_secs(180);

/// For the largest thing that is fetched, a kernel's source of 170 MB.
const DOWNLOAD_LIMIT: Duration = Duration::from_secs(600);

/// For what only uses this machine.
const LOCAL_LIMIT: Duration = Duration::from_secs(120);

/// What the suites are signed with.
pub(super) const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The packages of one suite, as its mirror offers them now.
#[derive(Debug)]
pub(super) struct Packages {
    folder: PathBuf,
}

impl Packages {
    /// Reads the suite's lists; everything fetched later lands in `folder` too.
    pub(super) fn of(suite: &str, folder: &Path) -> Result<Self> {
        let mirror = mirror()?;
        for part in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(folder.join(part))?;
        }
        fs::write(folder.join("status"), "")?;
        fs::write(folder.join("sources.list"), format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n"))?;
        fs::write(folder.join("apt.conf"), configuration(folder))?;
        let packages = Self { folder: folder.to_path_buf() };
        packages.apt("apt-get", &["update"], UPDATE_LIMIT)?;
        Ok(packages)
    }

    /// Unpacks packages and all that they depend on. Their scripts do not run.
    pub(super) fn unpack_with_dependencies(&self, names: &[&str], root: &Path) -> Result<()> {
        let words = ["--yes", "--download-only", "--no-install-recommends", "install"];
        self.apt("apt-get", &[&words, names].concat(), DOWNLOAD_LIMIT)?;
        for entry in fs::read_dir(self.folder.join("cache/archives"))? {
            let archive = entry?.path();
            if archive.extension().is_some_and(|extension| extension == "deb") {
                unpack(&archive, root)?;
                fs::remove_file(&archive)?;
            }
        }
        Ok(())
    }

    /// Unpacks one package without what it depends on.
    pub(super) fn unpack_alone(&self, name: &str, root: &Path) -> Result<()> {
        let folder = self.folder.join("download");
        fs::create_dir_all(&folder)?;
        // apt-get puts it where it runs.
        let here = format!("--chdir={}", folder.display());
        let configuration = self.folder.join("apt.conf").display().to_string();
        run("env", [&here, "apt-get", "-q", "-c", &configuration, "download", name], DOWNLOAD_LIMIT)?
            .good()?;
        let archive =
            fs::read_dir(&folder)?.next().with_context(|| format!("apt fetched no {name}"))??.path();
        unpack(&archive, root)?;
        Ok(fs::remove_file(&archive)?)
    }

    /// The package that `name` depends on whose own name starts with `prefix`.
    pub(super) fn dependency(&self, name: &str, prefix: &str) -> Result<String> {
        let record = self.apt("apt-cache", &["show", "--no-all-versions", name], LOCAL_LIMIT)?.stdout;
        let depends = record.lines().find_map(|line| line.strip_prefix("Depends: ")).unwrap_or_default();
        let found = depends.split([' ', ',']).find(|word| word.starts_with(prefix));
        found.map(str::to_owned).with_context(|| format!("{name} depends on no {prefix}*: {depends:?}"))
    }

    /// The names of the packages that match a pattern.
    pub(super) fn search(&self, pattern: &str) -> Result<Vec<String>> {
        let listing = self.apt("apt-cache", &["search", "--names-only", pattern], LOCAL_LIMIT)?.stdout;
        Ok(listing.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect())
    }

    fn apt(&self, program: &str, words: &[&str], limit: Duration) -> Result<Finished> {
        let configuration = self.folder.join("apt.conf").display().to_string();
        run(program, [&["-q", "-c", &configuration], words].concat(), limit)?.good()
    }
}

fn configuration(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "Dir::Etc::SourceList \"{folder}/sources.list\";
Dir::Etc::SourceParts \"/dev/null\";
Dir::State::Lists \"{folder}/lists\";
Dir::State::status \"{folder}/status\";
Dir::Cache \"{folder}/cache\";
Acquire::Languages \"none\";
Acquire::Retries \"3\";
APT::Architecture \"amd64\";
APT::Sandbox::User \"\";
"
    )
}

/// Where this machine's own packages come from, if that is Debian, or what SMPATH_VM_MIRROR says.
fn mirror() -> Result<String> {
    if let Ok(mirror) = std::env::var("SMPATH_VM_MIRROR") {
        return Ok(mirror);
    }
    let policy = run("apt-cache", ["policy"], LOCAL_LIMIT)?.good()?.stdout;
    let mut words = policy.split_whitespace();
    let found =
        words.find(|word| word.starts_with("http") && word.trim_end_matches('/').ends_with("/debian"));
    found.map(str::to_owned).context("apt knows no Debian mirror here: name one in SMPATH_VM_MIRROR")
}

/// A root that packages can be unpacked into: Debian has /bin and the like inside /usr.
pub(super) fn lay_root(root: &Path) -> Result<()> {
    for folder in ["bin", "sbin", "lib", "lib64"] {
        fs::create_dir_all(root.join("usr").join(folder))?;
        symlink(format!("usr/{folder}"), root.join(folder))?;
    }
    Ok(())
}

fn unpack(archive: &Path, root: &Path) -> Result<()> {
    fs::create_dir_all(root)?;
    run("dpkg-deb", [Path::new("--extract"), archive, root], LOCAL_LIMIT)?.good()?;
    Ok(())
}

/// Runs a program that was unpacked into `root`, with the loader and the libraries that came with it.
pub(super) fn run_from(root: &Path, program: &str, arguments: &[&str], limit: Duration) -> Result<Finished> {
    let mut words = in_root(root, program)?;
    let loader = words.remove(0);
    words.extend(arguments.iter().map(|&argument| argument.to_owned()));
    run(loader, words, limit)?.good()
}

/// The beginning of a command line that starts a program out of `root`.
pub(super) fn in_root(root: &Path, program: &str) -> Result<Vec<String>> {
    let path = root.join(program);
    ensure!(path.exists(), "{} was not unpacked", path.display());
    let text = |path: PathBuf| path.display().to_string();
    Ok(vec![
        text(root.join("lib64/ld-linux-x86-64.so.2")),
        "--library-path".to_owned(),
        text(root.join("usr/lib/x86_64-linux-gnu")),
        text(path),
    ])
}
