//! The system calls no job may make (userns.md §5). A deny list: what a newer kernel adds stays
//! usable, and what is dangerous in a container is listed below with the capability that lifts it.

use std::collections::BTreeMap;
use std::io;

use libc::{SYS_clone, SYS_clone3, SYS_ioctl, SYS_personality, SYS_socket};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter, sock_filter,
};

use super::Capabilities;

const EPERM: SeccompAction = SeccompAction::Errno(libc::EPERM as u32);
const ENOSYS: SeccompAction = SeccompAction::Errno(libc::ENOSYS as u32);

/// Refused whatever a job may do.
const ALWAYS: [i64; 21] = [
    libc::SYS_add_key,
    libc::SYS_keyctl,
    libc::SYS_request_key,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_nfsservctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_uselib,
    libc::SYS_ustat,
    libc::SYS_sysfs,
    libc::SYS__sysctl,
    libc::SYS_vhangup,
    libc::SYS_modify_ldt,
];

/// Refused unless the job was given the capability that the kernel asks for.
const UNLESS: [(&str, &[i64]); 8] = [
    (
        "SYS_ADMIN",
        &[
            libc::SYS_mount,
            libc::SYS_umount2,
            libc::SYS_pivot_root,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_fsopen,
            libc::SYS_fsconfig,
            libc::SYS_fsmount,
            libc::SYS_fspick,
            libc::SYS_open_tree,
            libc::SYS_move_mount,
            libc::SYS_mount_setattr,
            libc::SYS_fanotify_init,
        ],
    ),
    (
        "SYS_PTRACE",
        &[
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_process_madvise,
            libc::SYS_pidfd_getfd,
            libc::SYS_kcmp,
        ],
    ),
    ("SYS_MODULE", &[libc::SYS_init_module, libc::SYS_finit_module, libc::SYS_delete_module]),
    ("SYS_BOOT", &[libc::SYS_reboot]),
    (
        "SYS_TIME",
        &[
            libc::SYS_settimeofday,
            libc::SYS_clock_settime,
            libc::SYS_clock_adjtime,
            libc::SYS_adjtimex,
        ],
    ),
    ("SYSLOG", &[libc::SYS_syslog]),
    ("DAC_READ_SEARCH", &[libc::SYS_open_by_handle_at, libc::SYS_name_to_handle_at]),
    ("SYS_RAWIO", &[libc::SYS_iopl, libc::SYS_ioperm]),
];

/// Refused unless the job may load programs into the kernel or read its counters.
const BPF: [i64; 2] = [libc::SYS_bpf, libc::SYS_perf_event_open];

/// Personalities a program may ask for: Linux, with or without 3 GB, its two UNAME26 forms, the
/// query, and no change of address randomisation.
const PERSONALITIES: [u64; 6] = [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff, 0x4_0000];

/// Loads all filters into this process; they need no_new_privs.
pub(super) fn apply(capabilities: Capabilities) -> io::Result<()> {
    for program in [x32_guard(), no_clone3()?, deny(capabilities)?] {
        apply_filter(&program).map_err(io::Error::other)?;
    }
    Ok(())
}

fn deny(capabilities: Capabilities) -> io::Result<BpfProgram> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    let refused =
        UNLESS.iter().filter(|(name, _)| !capabilities.has(name)).flat_map(|(_, calls)| *calls);
    rules.extend(ALWAYS.iter().chain(refused).map(|call| (*call, Vec::new())));
    if !capabilities.has("BPF") {
        rules.extend(BPF.iter().map(|call| (*call, Vec::new())));
    }
    if !capabilities.has("SYS_ADMIN") {
        rules.insert(SYS_clone, new_namespaces()?);
    }
    rules.insert(SYS_personality, vec![other_personality()?]);
    rules.insert(SYS_ioctl, vec![equals(1, libc::TIOCSTI)?, equals(1, libc::TIOCLINUX)?]);
    rules.insert(
        SYS_socket,
        vec![equals(0, libc::AF_ALG as u64)?, equals(0, libc::AF_VSOCK as u64)?],
    );
    compile(rules, EPERM)
}

/// Its flags are behind a pointer, so it cannot be judged; libraries fall back to clone.
fn no_clone3() -> io::Result<BpfProgram> {
    compile(BTreeMap::from([(SYS_clone3, Vec::new())]), ENOSYS)
}

/// x32 numbers would pass by a list of numbers.
fn x32_guard() -> BpfProgram {
    const LOAD_NUMBER: u16 = 0x20;
    const JUMP_IF_AT_LEAST: u16 = 0x35;
    const RETURN: u16 = 0x06;
    const X32: u32 = 0x4000_0000;
    const ALLOW: u32 = 0x7fff_0000;
    const ERRNO: u32 = 0x0005_0000;
    vec![
        sock_filter { code: LOAD_NUMBER, jt: 0, jf: 0, k: 0 },
        sock_filter { code: JUMP_IF_AT_LEAST, jt: 0, jf: 1, k: X32 },
        sock_filter { code: RETURN, jt: 0, jf: 0, k: ERRNO | libc::ENOSYS as u32 },
        sock_filter { code: RETURN, jt: 0, jf: 0, k: ALLOW },
    ]
}

/// One rule per namespace flag: any of them set is refused.
fn new_namespaces() -> io::Result<Vec<SeccompRule>> {
    let flags = [
        libc::CLONE_NEWUSER,
        libc::CLONE_NEWNS,
        libc::CLONE_NEWPID,
        libc::CLONE_NEWNET,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWUTS,
        libc::CLONE_NEWCGROUP,
    ];
    let rule = |flag: i32| {
        let flag = flag as u64;
        condition(0, SeccompCmpOp::MaskedEq(flag), flag).and_then(|c| rule_of(vec![c]))
    };
    flags.into_iter().map(rule).collect()
}

fn other_personality() -> io::Result<SeccompRule> {
    let conditions: io::Result<Vec<_>> =
        PERSONALITIES.iter().map(|allowed| condition(0, SeccompCmpOp::Ne, *allowed)).collect();
    rule_of(conditions?)
}

fn equals(argument: u8, value: u64) -> io::Result<SeccompRule> {
    rule_of(vec![condition(argument, SeccompCmpOp::Eq, value)?])
}

fn condition(argument: u8, operator: SeccompCmpOp, value: u64) -> io::Result<SeccompCondition> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)
        .map_err(io::Error::other)
}

fn rule_of(conditions: Vec<SeccompCondition>) -> io::Result<SeccompRule> {
    SeccompRule::new(conditions).map_err(io::Error::other)
}

fn compile(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    refusal: SeccompAction,
) -> io::Result<BpfProgram> {
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refusal, TargetArch::x86_64)
        .map_err(io::Error::other)?;
    filter.try_into().map_err(io::Error::other)
}
