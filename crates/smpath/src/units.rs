//! Words of the command line and the configuration file: sizes, times, small lists.

use std::path::PathBuf;
use std::time::Duration;

use engine::NoPath;
use engine::config::{Alua, Digests, EarlyData, FencePolicy, Hedging, Sharing, SlowPaths};

/// One `--lu` of the embedded array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unit {
    /// Bytes.
    pub size: u64,
    pub block_size: u32,
    pub file: Option<PathBuf>,
    pub serial: Option<String>,
    /// Number that the identity is made from; two units with the same one claim to be the same.
    pub id: Option<u64>,
    pub thin: bool,
    pub read_only: bool,
    /// Revolutions in a minute; it does not turn if none is given.
    pub rotation_rate: Option<u16>,
    /// It shows no identity.
    pub is_nameless: bool,
    pub owner: Owner,
    /// So many units, all alike but for their identities.
    pub count: u16,
}

/// Which controller of the embedded array owns a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// All are equal.
    None,
    /// Counted from 0.
    Controller(u16),
    /// One after the other, of several units.
    Turns,
}

/// `64M`, `1GiB`, `512k`, `4096`: powers of 1024.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|letter: char| !letter.is_ascii_digit());
    let number: u64 = digits.parse().map_err(|_| format!("'{text}' is not a size such as 64M or 1G"))?;
    let shift = match text[digits.len()..].to_ascii_lowercase().trim_end_matches("ib").trim_end_matches('b') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err(format!("'{text}' is not a size such as 64M or 1G")),
    };
    number.checked_mul(1 << shift).filter(|bytes| *bytes > 0).ok_or_else(|| format!("{text} is out of range"))
}

/// `20s`, `500ms`, `5m`, `1h`; a bare number is seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|letter: char| !letter.is_ascii_digit());
    let number: u64 = digits.parse().map_err(|_| format!("'{text}' is not a time such as 20s or 5m"))?;
    let millis = match &text[digits.len()..] {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        _ => return Err(format!("'{text}' is not a time such as 20s or 5m")),
    };
    number.checked_mul(millis).map(Duration::from_millis).ok_or_else(|| format!("{text} is out of range"))
}

/// `500:3s`: one in so many, for so long.
pub(crate) fn count_and_time(text: &str) -> Result<(u64, Duration), String> {
    let wrong = || format!("'{text}' is not a number and a time such as 500:3s");
    let (count, time) = text.split_once(':').ok_or_else(wrong)?;
    let count = count.parse().ok().filter(|count| *count > 0).ok_or_else(wrong)?;
    Ok((count, duration(time)?))
}

/// `fail`, `queue`, or a time to queue for.
pub(crate) fn no_path(text: &str) -> Result<NoPath, String> {
    match text {
        "fail" => Ok(NoPath::Fail),
        "queue" => Ok(NoPath::Queue),
        time => duration(time)
            .map(|time| NoPath::QueueFor(time.into()))
            .map_err(|_| format!("'{text}' is not fail, queue, or a time to queue for such as 60s")),
    }
}

/// `none`, `header` or `header,data`.
pub(crate) fn digests(text: &str) -> Result<Digests, String> {
    match text {
        "none" => Ok(Digests::None),
        "header" => Ok(Digests::Header),
        "header,data" | "all" => Ok(Digests::HeaderAndData),
        _ => Err(format!("'{text}' is not none, header or header,data")),
    }
}

/// `bounded`, `bounded:TIME`, `strict` or `unsafe`.
pub(crate) fn fence(text: &str) -> Result<FencePolicy, String> {
    let wrong = || format!("'{text}' is not bounded, bounded:TIME such as bounded:45s, strict or unsafe");
    match text {
        "bounded" => Ok(FencePolicy::default()),
        "strict" => Ok(FencePolicy::Strict),
        "unsafe" => Ok(FencePolicy::Unsafe),
        _ => {
            let time = text.strip_prefix("bounded:").ok_or_else(wrong)?;
            let wait = duration(time).map_err(|_| wrong())?;
            if wait.is_zero() {
                return Err(String::from("a fence that waits for no time is none: that is called unsafe"));
            }
            Ok(FencePolicy::Bounded { wait: wait.into() })
        }
    }
}

/// `exclusive` or `shared`.
pub(crate) fn sharing(text: &str) -> Result<Sharing, String> {
    match text {
        "exclusive" => Ok(Sharing::Exclusive),
        "shared" => Ok(Sharing::Shared),
        _ => Err(format!("'{text}' is not exclusive or shared")),
    }
}

/// `demote` or `ignore`.
pub(crate) fn slow_paths(text: &str) -> Result<SlowPaths, String> {
    match text {
        "demote" => Ok(SlowPaths::Demote),
        "ignore" => Ok(SlowPaths::Ignore),
        _ => Err(format!("'{text}' is not demote or ignore")),
    }
}

/// `off`, or `2%`.
pub(crate) fn hedging(text: &str) -> Result<Hedging, String> {
    if text == "off" {
        return Ok(Hedging::Off);
    }
    let percent = text.strip_suffix('%').and_then(|number| number.parse().ok());
    match percent.filter(|percent| (1..=HEDGE_PERCENT_MAX).contains(percent)) {
        Some(percent) => Ok(Hedging::On { percent }),
        None => {
            Err(format!("'{text}' is not off or a percentage from 1% to {HEDGE_PERCENT_MAX}%, such as 2%"))
        }
    }
}

/// With more, most reads would be sent twice as soon as a path gets slower.
const HEDGE_PERCENT_MAX: u8 = 50;

/// None is `off`. A name of its own, because clap takes an option in an option for a value that may be left out.
pub(crate) type PathCheck = Option<Duration>;

/// `off`, or a time that is not short: it is paid for by each path of each logical unit.
pub(crate) fn path_check(text: &str) -> Result<PathCheck, String> {
    const SHORTEST: Duration = Duration::from_secs(1);
    match text {
        "off" => Ok(None),
        time => match duration(time) {
            Ok(time) if time >= SHORTEST => Ok(Some(time)),
            Ok(_) => Err(format!("'{time}' is too often: at least {SHORTEST:?}")),
            Err(_) => Err(format!("'{time}' is not off or a time such as 60s")),
        },
    }
}

/// `implicit` or `explicit`.
pub(crate) fn alua(text: &str) -> Result<Alua, String> {
    match text {
        "implicit" => Ok(Alua::Implicit),
        "explicit" => Ok(Alua::Explicit),
        _ => Err(format!("'{text}' is not implicit or explicit")),
    }
}

/// `on` or `off`.
pub(crate) fn early_data(text: &str) -> Result<EarlyData, String> {
    match text {
        "on" => Ok(EarlyData::On),
        "off" => Ok(EarlyData::Off),
        _ => Err(format!("'{text}' is not on or off")),
    }
}

/// What VPD page B1h can say (SBC: 0401h to FFFEh).
fn rotation_rate(text: &str) -> Result<u16, String> {
    let rate = text.parse().ok().filter(|rate| (0x0401..=0xfffe).contains(rate));
    rate.ok_or_else(|| format!("rpm={text}: a number from 1025 to 65534 is expected"))
}

/// `size=64M,file=PATH,block=4096,serial=TEXT,id=7,thin,read-only`.
pub(crate) fn unit(text: &str) -> Result<Unit, String> {
    let mut unit = Unit {
        size: 0,
        block_size: 512,
        file: None,
        serial: None,
        id: None,
        thin: false,
        read_only: false,
        rotation_rate: None,
        is_nameless: false,
        owner: Owner::None,
        count: 1,
    };
    for option in text.split(',') {
        match option.split_once('=').unwrap_or((option, "")) {
            ("size", value) => unit.size = size(value)?,
            ("file", value) if !value.is_empty() => unit.file = Some(PathBuf::from(value)),
            ("block", "512") => unit.block_size = 512,
            ("block", "4096" | "4k" | "4K") => unit.block_size = 4096,
            ("serial", value) if !value.is_empty() => unit.serial = Some(value.to_owned()),
            ("id", value) => {
                unit.id = Some(value.parse().map_err(|_| format!("id={value}: a number is expected"))?);
            }
            ("thin", "") => unit.thin = true,
            ("read-only", "") => unit.read_only = true,
            ("no-identity", "") => unit.is_nameless = true,
            ("rpm", value) => unit.rotation_rate = Some(rotation_rate(value)?),
            ("owner", "a") => unit.owner = Owner::Controller(0),
            ("owner", "b") => unit.owner = Owner::Controller(1),
            ("owner", "turns") => unit.owner = Owner::Turns,
            ("count", value) => {
                let count = value.parse().ok().filter(|count| *count > 0);
                unit.count = count.ok_or_else(|| format!("count={value}: a number of units is expected"))?;
            }
            _ => {
                return Err(format!(
                    "'{option}' is not known: use size=, file=, block=512|4096, serial=, id=, thin, read-only, rpm=, \
                     no-identity, owner=a|b|turns, count="
                ));
            }
        }
    }
    if unit.count > 1 && (unit.file.is_some() || unit.serial.is_some()) {
        return Err(String::from("several units cannot share a file or a serial number"));
    }
    if unit.size == 0 {
        return Err(String::from("a logical unit needs a size, such as size=64M"));
    }
    if !unit.size.is_multiple_of(u64::from(unit.block_size)) {
        return Err(format!("the size is not a multiple of the block size {}", unit.block_size));
    }
    Ok(unit)
}

/// Bytes for people: `256 MiB`, `1.5 GiB`.
pub(crate) fn show_size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut scaled = bytes as f64;
    let mut unit = 0;
    while scaled >= 1024.0 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    if scaled.fract() == 0.0 {
        format!("{scaled:.0} {}", UNITS[unit])
    } else {
        format!("{scaled:.1} {}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024_and_nonsense_is_refused() {
        assert_eq!(size("64M"), Ok(64 << 20));
        assert_eq!(size("1GiB"), Ok(1 << 30));
        assert_eq!(size("4096"), Ok(4096));
        for wrong in ["", "M", "12x", "99999999T", "0", "-1"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
        assert_eq!(show_size(256 << 20), "256 MiB");
        assert_eq!(show_size(1536 << 20), "1.5 GiB");
    }

    #[test]
    fn times_have_units() {
        assert_eq!(duration("20s"), Ok(Duration::from_secs(20)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert!(duration("soon").is_err());
        assert_eq!(count_and_time("500:3s"), Ok((500, Duration::from_secs(3))));
        assert!(count_and_time("0:3s").is_err() && count_and_time("3s").is_err());
        assert_eq!(no_path("60s"), Ok(NoPath::QueueFor(engine::clock::Duration::from_secs(60))));
        assert!(no_path("never").is_err());
        assert_eq!((path_check("off"), path_check("60s")), (Ok(None), Ok(Some(Duration::from_secs(60)))));
        assert!(path_check("10ms").is_err() && path_check("on").is_err());
    }

    #[test]
    fn a_fence_is_bounded_by_a_time_or_strict_or_named_unsafe() {
        let bounded = |seconds| FencePolicy::Bounded { wait: engine::clock::Duration::from_secs(seconds) };
        assert_eq!(fence("bounded"), Ok(bounded(30)));
        assert_eq!(fence("bounded:45s"), Ok(bounded(45)));
        assert_eq!(fence("bounded:2m"), Ok(bounded(120)));
        assert_eq!((fence("strict"), fence("unsafe")), (Ok(FencePolicy::Strict), Ok(FencePolicy::Unsafe)));
        for wrong in ["", "none", "bounded:", "bounded:0s", "bounded:soon", "45s", "strict:45s", "Bounded"] {
            assert!(fence(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_unit_is_described_by_a_list_of_options() {
        let unit = unit("size=1G,file=/tmp/x,block=4096,thin,id=7").expect("valid");
        assert_eq!((unit.size, unit.block_size, unit.thin, unit.id), (1 << 30, 4096, true, Some(7)));
        let unit = super::unit("size=1M,rpm=7200,no-identity").expect("valid");
        assert_eq!((unit.rotation_rate, unit.is_nameless), (Some(7200), true));
        let unit = super::unit("size=1M,count=1000,owner=turns").expect("valid");
        assert_eq!((unit.count, unit.owner), (1000, Owner::Turns));
        for wrong in [
            "",
            "thin",
            "size=1000",
            "size=1M,colour=red",
            "size=1M,count=0",
            "size=1M,rpm=1",
            "size=1M,count=2,file=/tmp/x",
        ] {
            assert!(super::unit(wrong).is_err(), "{wrong}");
        }
    }
}
