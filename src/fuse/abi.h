// The FUSE wire protocol as far as vellum speaks it: Linux 5.4 (7.31) to 6.18 (7.45), as our own declarations.
// The machine's <linux/fuse.h> may be years older than its kernel; nothing here depends on it.
//
// "7.N" beside a name is the protocol version that brought it; names without one are older than 7.31.
// All integers are in host byte order and every struct is laid out without hidden padding, so it can be copied
// to and from the wire as it is. Requests: InHeader, then the struct of the opcode, then names or data.
// Replies: OutHeader, then the struct of the answer, then data. Notifications: OutHeader with unique 0 and the
// code where a reply has its error.
// Threads: plain values. Source: facts of Linux include/uapi/linux/fuse.h.
#pragma once

#include <cstddef>
#include <cstdint>

namespace vellum::fuse::abi {

inline constexpr std::uint32_t kMajor = 7;
inline constexpr std::uint32_t kOldestMinor = 31;  // Linux 5.4
inline constexpr std::uint32_t kNewestMinor = 45;  // Linux 6.18

inline constexpr std::size_t kNameMax = 255;
inline constexpr std::size_t kPathMax = 4096;  // of a symlink's target, with its zero byte
inline constexpr std::size_t kXattrNameMax = 255;
inline constexpr std::size_t kXattrSizeMax = 65536;
inline constexpr std::size_t kPageSize = 4096;  // the unit of InitOut::max_pages on the machines we know
inline constexpr std::size_t kMinReadBuffer = 8192;

enum class Opcode : std::uint32_t {
  kLookup = 1,
  kForget = 2,  // never answered
  kGetattr = 3,
  kSetattr = 4,
  kReadlink = 5,
  kSymlink = 6,
  kMknod = 8,
  kMkdir = 9,
  kUnlink = 10,
  kRmdir = 11,
  kRename = 12,
  kLink = 13,
  kOpen = 14,
  kRead = 15,
  kWrite = 16,
  kStatfs = 17,
  kRelease = 18,
  kFsync = 20,
  kSetxattr = 21,
  kGetxattr = 22,
  kListxattr = 23,
  kRemovexattr = 24,
  kFlush = 25,
  kInit = 26,
  kOpendir = 27,
  kReaddir = 28,
  kReleasedir = 29,
  kFsyncdir = 30,
  kGetlk = 31,
  kSetlk = 32,
  kSetlkw = 33,
  kAccess = 34,
  kCreate = 35,
  kInterrupt = 36,
  kBmap = 37,
  kDestroy = 38,
  kIoctl = 39,
  kPoll = 40,
  kNotifyReply = 41,
  kBatchForget = 42,  // never answered
  kFallocate = 43,
  kReaddirplus = 44,
  kRename2 = 45,
  kLseek = 46,
  kCopyFileRange = 47,
  kSetupMapping = 48,
  kRemoveMapping = 49,
  kSyncfs = 50,           // 7.34
  kTmpfile = 51,          // 7.37
  kStatx = 52,            // 7.39
  kCopyFileRange64 = 53,  // 7.45
};
inline constexpr std::uint32_t kOpcodeLimit = 54;  // one past the highest known

enum class NotifyCode : std::int32_t {
  kPoll = 1,
  kInvalInode = 2,
  kInvalEntry = 3,
  kStore = 4,
  kRetrieve = 5,
  kDelete = 6,
  kResend = 7,    // 7.40
  kIncEpoch = 8,  // 7.44
  kPrune = 9,     // 7.45
};

// INIT. Bits 0 to 31 travel in `flags`, bits 32 to 63 in `flags2` (7.36, announced by kInitExt).
namespace init_flag {
inline constexpr std::uint64_t kAsyncRead = 1ULL << 0;
inline constexpr std::uint64_t kPosixLocks = 1ULL << 1;
inline constexpr std::uint64_t kAtomicOTrunc = 1ULL << 3;
inline constexpr std::uint64_t kExportSupport = 1ULL << 4;
inline constexpr std::uint64_t kBigWrites = 1ULL << 5;
inline constexpr std::uint64_t kDontMask = 1ULL << 6;
inline constexpr std::uint64_t kSpliceWrite = 1ULL << 7;
inline constexpr std::uint64_t kSpliceMove = 1ULL << 8;
inline constexpr std::uint64_t kSpliceRead = 1ULL << 9;
inline constexpr std::uint64_t kFlockLocks = 1ULL << 10;
inline constexpr std::uint64_t kHasIoctlDir = 1ULL << 11;
inline constexpr std::uint64_t kAutoInvalData = 1ULL << 12;
inline constexpr std::uint64_t kDoReaddirplus = 1ULL << 13;
inline constexpr std::uint64_t kReaddirplusAuto = 1ULL << 14;
inline constexpr std::uint64_t kAsyncDio = 1ULL << 15;
inline constexpr std::uint64_t kWritebackCache = 1ULL << 16;
inline constexpr std::uint64_t kNoOpenSupport = 1ULL << 17;
inline constexpr std::uint64_t kParallelDirops = 1ULL << 18;
inline constexpr std::uint64_t kHandleKillpriv = 1ULL << 19;
inline constexpr std::uint64_t kPosixAcl = 1ULL << 20;
inline constexpr std::uint64_t kAbortError = 1ULL << 21;
inline constexpr std::uint64_t kMaxPages = 1ULL << 22;
inline constexpr std::uint64_t kCacheSymlinks = 1ULL << 23;
inline constexpr std::uint64_t kNoOpendirSupport = 1ULL << 24;
inline constexpr std::uint64_t kExplicitInvalData = 1ULL << 25;
inline constexpr std::uint64_t kMapAlignment = 1ULL << 26;
inline constexpr std::uint64_t kSubmounts = 1ULL << 27;          // 7.32
inline constexpr std::uint64_t kHandleKillprivV2 = 1ULL << 28;   // 7.33
inline constexpr std::uint64_t kSetxattrExt = 1ULL << 29;        // 7.33
inline constexpr std::uint64_t kInitExt = 1ULL << 30;            // 7.36
inline constexpr std::uint64_t kSecurityCtx = 1ULL << 32;        // 7.36
inline constexpr std::uint64_t kHasInodeDax = 1ULL << 33;        // 7.36
inline constexpr std::uint64_t kCreateSuppGroup = 1ULL << 34;    // 7.38
inline constexpr std::uint64_t kHasExpireOnly = 1ULL << 35;      // 7.38
inline constexpr std::uint64_t kDirectIoAllowMmap = 1ULL << 36;  // 7.39
inline constexpr std::uint64_t kPassthrough = 1ULL << 37;        // 7.40
inline constexpr std::uint64_t kNoExportSupport = 1ULL << 38;    // 7.40
inline constexpr std::uint64_t kHasResend = 1ULL << 39;          // 7.40
inline constexpr std::uint64_t kAllowIdmap = 1ULL << 40;         // 7.41
inline constexpr std::uint64_t kOverIoUring = 1ULL << 41;        // 7.42
inline constexpr std::uint64_t kRequestTimeout = 1ULL << 42;     // 7.43
}  // namespace init_flag

namespace open_reply {
inline constexpr std::uint32_t kDirectIo = 1U << 0;
inline constexpr std::uint32_t kKeepCache = 1U << 1;
inline constexpr std::uint32_t kNonseekable = 1U << 2;
inline constexpr std::uint32_t kCacheDir = 1U << 3;
inline constexpr std::uint32_t kStream = 1U << 4;                // 7.31
inline constexpr std::uint32_t kNoflush = 1U << 5;               // 7.35
inline constexpr std::uint32_t kParallelDirectWrites = 1U << 6;  // 7.38
inline constexpr std::uint32_t kPassthrough = 1U << 7;           // 7.40
}  // namespace open_reply

namespace setattr_valid {
inline constexpr std::uint32_t kMode = 1U << 0;
inline constexpr std::uint32_t kUid = 1U << 1;
inline constexpr std::uint32_t kGid = 1U << 2;
inline constexpr std::uint32_t kSize = 1U << 3;
inline constexpr std::uint32_t kAtime = 1U << 4;
inline constexpr std::uint32_t kMtime = 1U << 5;
inline constexpr std::uint32_t kHandle = 1U << 6;
inline constexpr std::uint32_t kAtimeNow = 1U << 7;
inline constexpr std::uint32_t kMtimeNow = 1U << 8;
inline constexpr std::uint32_t kLockOwner = 1U << 9;
inline constexpr std::uint32_t kCtime = 1U << 10;
inline constexpr std::uint32_t kKillSuidgid = 1U << 11;  // 7.33
}  // namespace setattr_valid

inline constexpr std::uint32_t kGetattrHandle = 1U << 0;
inline constexpr std::uint32_t kOpenKillSuidgid = 1U << 0;  // 7.33
inline constexpr std::uint32_t kWriteCache = 1U << 0;
inline constexpr std::uint32_t kWriteLockOwner = 1U << 1;
inline constexpr std::uint32_t kWriteKillSuidgid = 1U << 2;  // 7.31; until 7.33 suid, sgid and capabilities
inline constexpr std::uint32_t kFsyncDataOnly = 1U << 0;
inline constexpr std::uint32_t kIoctlCompat = 1U << 0;
inline constexpr std::uint32_t kIoctlUnrestricted = 1U << 1;
inline constexpr std::uint32_t kIoctlRetry = 1U << 2;
inline constexpr std::uint32_t kIoctl32Bit = 1U << 3;
inline constexpr std::uint32_t kIoctlDir = 1U << 4;
inline constexpr std::uint32_t kSetxattrAclKillSgid = 1U << 0;  // 7.33
inline constexpr std::uint32_t kExpireOnly = 1U << 0;           // 7.38, of a kInvalEntry notification
inline constexpr std::uint64_t kUniqueInterrupt = 1ULL << 0;    // the unique of an INTERRUPT: its target's, plus this
inline constexpr std::uint64_t kUniqueResend = 1ULL << 63;      // 7.40: this request was sent before

struct InHeader {
  std::uint32_t length;  // of the whole request
  std::uint32_t opcode;
  std::uint64_t unique;
  std::uint64_t node;
  std::uint32_t uid;
  std::uint32_t gid;
  std::uint32_t pid;
  std::uint16_t extension_words;  // 7.38: 8-byte units of extensions at the end of the request
  std::uint16_t padding;
};
static_assert(sizeof(InHeader) == 40);

struct OutHeader {
  std::uint32_t length;  // of the whole reply
  std::int32_t error;    // 0 or a negative errno; the code of a notification
  std::uint64_t unique;
};
static_assert(sizeof(OutHeader) == 16);

struct Attr {
  std::uint64_t ino, size, blocks;
  std::uint64_t atime, mtime, ctime;
  std::uint32_t atime_nsec, mtime_nsec, ctime_nsec;
  std::uint32_t mode, nlink, uid, gid, rdev, blksize;
  std::uint32_t flags;  // 7.32; padding before
};
static_assert(sizeof(Attr) == 88);

struct EntryOut {
  std::uint64_t node;  // 0: a negative entry
  std::uint64_t generation;
  std::uint64_t entry_valid, attr_valid;
  std::uint32_t entry_valid_nsec, attr_valid_nsec;
  Attr attr;
};
static_assert(sizeof(EntryOut) == 128);

struct AttrOut {
  std::uint64_t attr_valid;
  std::uint32_t attr_valid_nsec;
  std::uint32_t padding;
  Attr attr;
};
static_assert(sizeof(AttrOut) == 104);

struct ForgetIn {
  std::uint64_t lookups;
};
static_assert(sizeof(ForgetIn) == 8);

struct BatchForgetIn {
  std::uint32_t count;  // of ForgetOne that follow
  std::uint32_t padding;
};
static_assert(sizeof(BatchForgetIn) == 8);

struct ForgetOne {
  std::uint64_t node;
  std::uint64_t lookups;
};
static_assert(sizeof(ForgetOne) == 16);

struct GetattrIn {
  std::uint32_t flags;
  std::uint32_t padding;
  std::uint64_t handle;
};
static_assert(sizeof(GetattrIn) == 16);

struct SetattrIn {
  std::uint32_t valid;
  std::uint32_t padding;
  std::uint64_t handle;
  std::uint64_t size;
  std::uint64_t lock_owner;
  std::uint64_t atime, mtime, ctime;
  std::uint32_t atime_nsec, mtime_nsec, ctime_nsec;
  std::uint32_t mode;
  std::uint32_t unused1;
  std::uint32_t uid, gid;
  std::uint32_t unused2;
};
static_assert(sizeof(SetattrIn) == 88);

// 7.39. A time of statx(2): seconds are signed here, unlike in Attr.
struct StatxTime {
  std::int64_t sec;
  std::uint32_t nsec;
  std::int32_t reserved;
};
static_assert(sizeof(StatxTime) == 16);

struct StatxIn {  // 7.39
  std::uint32_t getattr_flags;
  std::uint32_t reserved;
  std::uint64_t handle;
  std::uint32_t flags;  // AT_STATX_*
  std::uint32_t mask;   // STATX_*
};
static_assert(sizeof(StatxIn) == 24);

struct StatxOut {  // 7.39
  std::uint64_t attr_valid;
  std::uint32_t attr_valid_nsec;
  std::uint32_t flags;
  std::uint64_t spare1[2];
  std::uint32_t mask, blksize;
  std::uint64_t attributes;
  std::uint32_t nlink, uid, gid;
  std::uint16_t mode, spare2;
  std::uint64_t ino, size, blocks, attributes_mask;
  StatxTime atime, btime, ctime, mtime;
  std::uint32_t rdev_major, rdev_minor, dev_major, dev_minor;
  std::uint64_t spare3[14];
};
static_assert(sizeof(StatxOut) == 288);

struct MknodIn {
  std::uint32_t mode, rdev, umask, padding;
};
static_assert(sizeof(MknodIn) == 16);

struct MkdirIn {
  std::uint32_t mode, umask;
};
static_assert(sizeof(MkdirIn) == 8);

struct RenameIn {
  std::uint64_t new_parent;
};
static_assert(sizeof(RenameIn) == 8);

struct Rename2In {
  std::uint64_t new_parent;
  std::uint32_t flags;  // RENAME_*
  std::uint32_t padding;
};
static_assert(sizeof(Rename2In) == 16);

struct LinkIn {
  std::uint64_t node;
};
static_assert(sizeof(LinkIn) == 8);

struct OpenIn {
  std::uint32_t flags;       // O_*
  std::uint32_t open_flags;  // 7.33
};
static_assert(sizeof(OpenIn) == 8);

struct CreateIn {  // TMPFILE too
  std::uint32_t flags, mode, umask;
  std::uint32_t open_flags;  // 7.33
};
static_assert(sizeof(CreateIn) == 16);

struct OpenOut {
  std::uint64_t handle;
  std::uint32_t flags;      // open_reply
  std::int32_t backing_id;  // 7.40; padding before
};
static_assert(sizeof(OpenOut) == 16);

struct ReleaseIn {
  std::uint64_t handle;
  std::uint32_t flags, release_flags;
  std::uint64_t lock_owner;
};
static_assert(sizeof(ReleaseIn) == 24);

struct FlushIn {
  std::uint64_t handle;
  std::uint32_t unused, padding;
  std::uint64_t lock_owner;
};
static_assert(sizeof(FlushIn) == 24);

struct ReadIn {
  std::uint64_t handle;
  std::uint64_t offset;
  std::uint32_t size, read_flags;
  std::uint64_t lock_owner;
  std::uint32_t flags, padding;
};
static_assert(sizeof(ReadIn) == 40);

struct WriteIn {
  std::uint64_t handle;
  std::uint64_t offset;
  std::uint32_t size, write_flags;
  std::uint64_t lock_owner;
  std::uint32_t flags, padding;
};
static_assert(sizeof(WriteIn) == 40);

struct WriteOut {  // COPY_FILE_RANGE too
  std::uint32_t size, padding;
};
static_assert(sizeof(WriteOut) == 8);

struct CopyFileRangeOut {  // 7.45, of COPY_FILE_RANGE_64
  std::uint64_t copied;
};
static_assert(sizeof(CopyFileRangeOut) == 8);

struct StatfsOut {
  std::uint64_t blocks, bfree, bavail, files, ffree;
  std::uint32_t bsize, namelen, frsize, padding;
  std::uint32_t spare[6];
};
static_assert(sizeof(StatfsOut) == 80);

struct FsyncIn {
  std::uint64_t handle;
  std::uint32_t flags, padding;
};
static_assert(sizeof(FsyncIn) == 16);

struct SetxattrIn {
  std::uint32_t size, flags;
};
static_assert(sizeof(SetxattrIn) == 8);

struct SetxattrExtIn {  // 7.33, once kSetxattrExt was agreed
  std::uint32_t size, flags, setxattr_flags, padding;
};
static_assert(sizeof(SetxattrExtIn) == 16);

struct GetxattrIn {  // LISTXATTR too
  std::uint32_t size, padding;
};
static_assert(sizeof(GetxattrIn) == 8);

struct GetxattrOut {  // the answer to size 0
  std::uint32_t size, padding;
};
static_assert(sizeof(GetxattrOut) == 8);

struct LockIn {
  std::uint64_t handle, owner, start, end;
  std::uint32_t type, pid, flags, padding;
};
static_assert(sizeof(LockIn) == 48);

struct AccessIn {
  std::uint32_t mask, padding;
};
static_assert(sizeof(AccessIn) == 8);

struct InitIn {
  std::uint32_t major, minor;
  std::uint32_t max_readahead;
  std::uint32_t flags;
  std::uint32_t flags2;  // 7.36: from here on
  std::uint32_t unused[11];
};
static_assert(sizeof(InitIn) == 64);
inline constexpr std::size_t kInitInBefore36 = 16;

struct InitOut {
  std::uint32_t major, minor;
  std::uint32_t max_readahead;
  std::uint32_t flags;
  std::uint16_t max_background, congestion_threshold;
  std::uint32_t max_write;
  std::uint32_t time_gran;
  std::uint16_t max_pages, map_alignment;
  std::uint32_t flags2;           // 7.36
  std::uint32_t max_stack_depth;  // 7.40
  std::uint16_t request_timeout;  // 7.43
  std::uint16_t unused[11];
};
static_assert(sizeof(InitOut) == 64);

struct InterruptIn {
  std::uint64_t unique;
};
static_assert(sizeof(InterruptIn) == 8);

struct IoctlIn {
  std::uint64_t handle;
  std::uint32_t flags, command;
  std::uint64_t argument;
  std::uint32_t in_size, out_size;
};
static_assert(sizeof(IoctlIn) == 32);

struct IoctlOut {
  std::int32_t result;
  std::uint32_t flags, in_iovs, out_iovs;
};
static_assert(sizeof(IoctlOut) == 16);

struct PollIn {
  std::uint64_t handle, kernel_handle;
  std::uint32_t flags, events;
};
static_assert(sizeof(PollIn) == 24);

struct BmapIn {
  std::uint64_t block;
  std::uint32_t blocksize, padding;
};
static_assert(sizeof(BmapIn) == 16);

struct FallocateIn {
  std::uint64_t handle, offset, length;
  std::uint32_t mode, padding;
};
static_assert(sizeof(FallocateIn) == 32);

struct LseekIn {
  std::uint64_t handle, offset;
  std::uint32_t whence, padding;
};
static_assert(sizeof(LseekIn) == 24);

struct LseekOut {
  std::uint64_t offset;
};
static_assert(sizeof(LseekOut) == 8);

struct CopyFileRangeIn {
  std::uint64_t handle_in, offset_in;
  std::uint64_t node_out, handle_out, offset_out;
  std::uint64_t length, flags;
};
static_assert(sizeof(CopyFileRangeIn) == 56);

struct SyncfsIn {
  std::uint64_t padding;
};
static_assert(sizeof(SyncfsIn) == 8);

// A directory entry: this, the name without a zero byte, zeros up to a multiple of 8. READDIRPLUS puts an
// EntryOut before each.
struct Dirent {
  std::uint64_t ino, next;
  std::uint32_t name_length, type;
};
static_assert(sizeof(Dirent) == 24);
constexpr std::size_t padded(std::size_t bytes) { return (bytes + 7) & ~std::size_t{7}; }

struct NotifyInvalInode {
  std::uint64_t node;
  std::int64_t offset;  // negative: attributes only
  std::int64_t length;  // 0 or less: to the end
};
static_assert(sizeof(NotifyInvalInode) == 24);

struct NotifyInvalEntry {  // then the name and a zero byte that name_length does not count
  std::uint64_t parent;
  std::uint32_t name_length, flags;
};
static_assert(sizeof(NotifyInvalEntry) == 16);

struct NotifyStore {  // then the bytes
  std::uint64_t node, offset;
  std::uint32_t size, padding;
};
static_assert(sizeof(NotifyStore) == 24);

struct NotifyDelete {  // then the name, as above
  std::uint64_t parent, child;
  std::uint32_t name_length, padding;
};
static_assert(sizeof(NotifyDelete) == 24);

// 7.42: requests over io_uring. Each entry has a page with this, and a payload apart for what follows the struct of the
// operation: names and data, of the request and then of the reply.
struct RingTransfer {
  std::uint64_t flags;
  std::uint64_t commit_id;     // names the request in the command that answers it
  std::uint32_t payload_size;  // bytes used of the payload
  std::uint32_t padding;
  std::uint64_t reserved;
};
struct RingHeader {
  char in_out[128];     // InHeader, then OutHeader
  char operation[128];  // the struct of the opcode
  RingTransfer transfer;
};
static_assert(sizeof(RingTransfer) == 32 && sizeof(RingHeader) == 288);

}  // namespace vellum::fuse::abi
