//! The system calls that neither std nor libbpf-rs wraps. Every `unsafe` of the crate that is not in `pod` is here.

use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use libbpf_rs::{AsRawLibbpf, Object, libbpf_sys as bpf};

/// `f_type` of bpffs.
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;

/// Where a kprobe is put.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// Address of an instruction.
    Address(u64),
    /// Entry of a kernel function.
    Function(&'a CStr),
    /// Return of a kernel function.
    Return(&'a CStr),
}

/// Set once SIGINT or SIGTERM has arrived.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn note_interrupt(_: libc::c_int) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// Makes SIGINT and SIGTERM set a flag, so that a load is undone and a follower ends its line.
pub fn catch_interrupts() {
    let handler = note_interrupt as extern "C" fn(libc::c_int);
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: the handler only stores to an atomic.
        unsafe { libc::signal(signal, handler as libc::sighandler_t) };
    }
}

/// Whether the user wants this command to end.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Opens the perf event of a kprobe. It is not armed before a program is linked to it.
pub fn kprobe_event(pmu: u32, target: Target<'_>) -> io::Result<OwnedFd> {
    // SAFETY: all zeroes is a valid perf_event_attr.
    let mut attr: bpf::perf_event_attr = unsafe { mem::zeroed() };
    attr.size = mem::size_of_val(&attr) as u32;
    attr.type_ = pmu;
    match target {
        Target::Address(address) => attr.__bindgen_anon_4.kprobe_addr = address,
        Target::Function(name) => attr.__bindgen_anon_3.kprobe_func = name.as_ptr() as u64,
        Target::Return(name) => {
            attr.__bindgen_anon_3.kprobe_func = name.as_ptr() as u64;
            // format/retprobe of the PMU: bit 0 since there are such events
            attr.config = 1;
        }
    }
    // SAFETY: attr lives over the call, and so does the name that it may point to.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attr,
            -1,
            0,
            -1,
            bpf::PERF_FLAG_FD_CLOEXEC,
        )
    };
    owned(fd)
}

/// Links a program to a perf event; the link keeps the event, so that its file descriptor may be closed.
pub fn link_perf_event(
    program: BorrowedFd<'_>,
    event: BorrowedFd<'_>,
    cookie: u64,
) -> io::Result<OwnedFd> {
    // SAFETY: all zeroes is a valid bpf_link_create_opts.
    let mut opts: bpf::bpf_link_create_opts = unsafe { mem::zeroed() };
    opts.sz = mem::size_of_val(&opts) as u64;
    opts.__bindgen_anon_1.perf_event.bpf_cookie = cookie;
    // SAFETY: both descriptors are open, opts lives over the call.
    let fd = unsafe {
        bpf::bpf_link_create(
            program.as_raw_fd(),
            event.as_raw_fd(),
            bpf::BPF_PERF_EVENT,
            &raw const opts,
        )
    };
    libbpf_fd(fd)
}

/// Number of a structure in a module's type information; its size must be the expected one.
pub fn module_struct(module: &CStr, name: &CStr, size: usize) -> io::Result<u32> {
    const KIND_STRUCT: u32 = 4;
    // SAFETY: what libbpf allocates is freed below, in the order of dependence; the names end with NUL.
    let (id, found) = unsafe {
        let kernel = bpf::btf__load_vmlinux_btf();
        if kernel.is_null() {
            return Err(io::Error::last_os_error());
        }
        let types = bpf::btf__load_module_btf(module.as_ptr(), kernel);
        if types.is_null() {
            bpf::btf__free(kernel);
            return Err(io::Error::last_os_error());
        }
        let id = bpf::btf__find_by_name_kind(types, name.as_ptr(), KIND_STRUCT);
        let found = u32::try_from(id).map_or(-1, |id| bpf::btf__resolve_size(types, id));
        bpf::btf__free(types);
        bpf::btf__free(kernel);
        (id, found)
    };
    match u32::try_from(id) {
        Ok(id) if found == size as i64 => Ok(id),
        Ok(_) => Err(io::Error::other(format!(
            "{name:?} has {found} bytes, not {size}"
        ))),
        Err(_) => Err(io::Error::from_raw_os_error(id.abs())),
    }
}

/// The type information that came with a loaded object.
pub fn object_btf(object: &Object) -> i32 {
    // SAFETY: the object lives over the call.
    unsafe { bpf::bpf_object__btf_fd(object.as_libbpf_object().as_ptr().cast_const()) }
}

/// Makes a map whose value is the `struct_ops` `value_type` of a module and fills it. The kernel wants
/// type information of ours too, as it has come with a program: `own_btf`.
pub fn struct_ops_map(
    name: &CStr,
    own_btf: i32,
    module_btf: u32,
    value_type: u32,
    value: &[u8],
) -> io::Result<OwnedFd> {
    // SAFETY: no pointers are involved.
    let btf = libbpf_fd(unsafe { bpf::bpf_btf_get_fd_by_id(module_btf) })?;
    let opts = bpf::bpf_map_create_opts {
        sz: mem::size_of::<bpf::bpf_map_create_opts>() as u64,
        btf_fd: own_btf as u32,
        btf_vmlinux_value_type_id: value_type,
        value_type_btf_obj_fd: btf.as_raw_fd(),
        map_flags: bpf::BPF_F_LINK | bpf::BPF_F_VTYPE_BTF_OBJ_FD,
        ..Default::default()
    };
    // SAFETY: name and opts live over the call.
    let map = libbpf_fd(unsafe {
        bpf::bpf_map_create(
            bpf::BPF_MAP_TYPE_STRUCT_OPS,
            name.as_ptr(),
            4,
            value.len() as u32,
            1,
            &raw const opts,
        )
    })?;
    let key = 0u32;
    // SAFETY: key and value have the sizes that the map was made with.
    zero(unsafe {
        bpf::bpf_map_update_elem(
            map.as_raw_fd(),
            (&raw const key).cast(),
            value.as_ptr().cast(),
            0,
        )
    })?;
    Ok(map)
}

/// Registers a `struct_ops`: from here on it is in force as long as the link is.
pub fn link_struct_ops(map: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: the map is open; a struct_ops link takes no options.
    let fd =
        unsafe { bpf::bpf_link_create(map.as_raw_fd(), 0, bpf::BPF_STRUCT_OPS, std::ptr::null()) };
    libbpf_fd(fd)
}

/// Pins a program, map or link.
pub fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    // SAFETY: the descriptor is open and the path ends with NUL.
    zero(unsafe { bpf::bpf_obj_pin(object.as_raw_fd(), path.as_ptr()) })
}

/// Opens a pinned object.
pub fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    // SAFETY: the path ends with NUL.
    libbpf_fd(unsafe { bpf::bpf_obj_get(path.as_ptr()) })
}

/// What the kernel skipped of a program because another one ran on that CPU.
pub fn recursion_misses(program: BorrowedFd<'_>) -> io::Result<u64> {
    Ok(program_info(program)?.recursion_misses)
}

/// Runs of a program while `kernel.bpf_stats_enabled` was set.
pub fn runs(program: BorrowedFd<'_>) -> io::Result<u64> {
    Ok(program_info(program)?.run_cnt)
}

fn program_info(program: BorrowedFd<'_>) -> io::Result<bpf::bpf_prog_info> {
    // SAFETY: all zeroes is a valid bpf_prog_info: no buffers asked for.
    let mut info: bpf::bpf_prog_info = unsafe { mem::zeroed() };
    let mut len = mem::size_of_val(&info) as u32;
    // SAFETY: info is as large as len says.
    zero(unsafe {
        bpf::bpf_prog_get_info_by_fd(program.as_raw_fd(), &raw mut info, &raw mut len)
    })?;
    Ok(info)
}

/// Inserts a module from memory.
pub fn insert_module(image: &[u8]) -> io::Result<()> {
    // SAFETY: the image is as long as said, the parameters are an empty string.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_init_module,
            image.as_ptr(),
            image.len(),
            c"".as_ptr(),
        )
    };
    if rc == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Removes a module; does not wait while it is in use.
pub fn remove_module(name: &CStr) -> io::Result<()> {
    // SAFETY: the name ends with NUL.
    let rc = unsafe { libc::syscall(libc::SYS_delete_module, name.as_ptr(), libc::O_NONBLOCK) };
    if rc == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Takes a lock that ends with the file descriptor; `None` when somebody else holds it.
pub fn try_lock(path: &Path) -> io::Result<Option<File>> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(e)) => Err(e),
    }
}

/// Raises the soft limit of open files to the hard one: each probe needs two while it is made.
pub fn raise_file_limit() {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: limit is valid; failure leaves the old limit, which is reported when it is hit.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
}

/// Waits until every piece of code that could not be preempted has ended, on every CPU.
pub fn grace_period() {
    const GLOBAL: libc::c_int = 1;
    // SAFETY: no pointers. Where it is not allowed (isolated CPUs), time does what it can.
    let rc = unsafe { libc::syscall(libc::SYS_membarrier, GLOBAL, 0, 0) };
    if rc != 0 {
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

/// Gives two files or folders each other's names, in one step.
pub fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    let (one, other) = (c_path(one)?, c_path(other)?);
    // SAFETY: both paths end with NUL.
    let rc = unsafe {
        libc::renameat2(
            libc::AT_FDCWD,
            one.as_ptr(),
            libc::AT_FDCWD,
            other.as_ptr(),
            libc::RENAME_EXCHANGE,
        )
    };
    if rc == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Whether a folder lies in a BPF file system.
pub fn is_bpffs(folder: &Path) -> io::Result<bool> {
    let path = c_path(folder)?;
    // SAFETY: all zeroes is a valid statfs.
    let mut stat: libc::statfs = unsafe { mem::zeroed() };
    // SAFETY: the path ends with NUL, stat is valid.
    if unsafe { libc::statfs(path.as_ptr(), &raw mut stat) } == 0 {
        Ok(stat.f_type as i64 & 0xffff_ffff == BPF_FS_MAGIC)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Nanoseconds on `CLOCK_REALTIME` and `CLOCK_BOOTTIME`, read together.
pub fn clocks() -> (u64, u64) {
    let read = |clock| {
        let mut t = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: t is valid; both clocks exist on every kernel that runs BPF.
        unsafe { libc::clock_gettime(clock, &raw mut t) };
        t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
    };
    (read(libc::CLOCK_REALTIME), read(libc::CLOCK_BOOTTIME))
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| ErrorKind::InvalidInput.into())
}

fn owned(fd: libc::c_long) -> io::Result<OwnedFd> {
    match i32::try_from(fd) {
        // SAFETY: the kernel has just made the descriptor for us.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// libbpf returns descriptors or negative errno.
fn libbpf_fd(rc: i32) -> io::Result<OwnedFd> {
    if rc >= 0 {
        owned(rc.into())
    } else {
        Err(io::Error::from_raw_os_error(-rc))
    }
}

fn zero(rc: i32) -> io::Result<()> {
    if rc == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(rc.abs()))
    }
}
