#include "sys/lease.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/vfs.h>

#include <algorithm>
#include <array>

#include "sys/file.h"

namespace vellum::sys {
namespace {

// <linux/magic.h> does not have all of them.
constexpr std::uint32_t kXfs = 0x58465342;
constexpr std::array<std::uint32_t, 5> kLocal = {EXT4_SUPER_MAGIC, kXfs, BTRFS_SUPER_MAGIC, F2FS_SUPER_MAGIC,
                                                 TMPFS_MAGIC};

}  // namespace

Result<ReadLease> ReadLease::take(FdRef file) {
  struct ::statfs where {};
  if (::fstatfs(file.raw(), &where) != 0) return fail_errno();
  if (std::ranges::find(kLocal, static_cast<std::uint32_t>(where.f_type)) == kLocal.end()) return fail(EOPNOTSUPP);
  // A memfd(2) is written to without the kernel's having counted who may. It has no name; nor has anything else such.
  const Statx st = TRY(statx(file, ""));
  if (st.nlink == 0) return fail(EOPNOTSUPP);
  // A lease belongs to what open(2) makes, which others may share if the descriptor was inherited.
  UniqueFd own = TRY(reopen(file, O_RDONLY | O_CLOEXEC));
  if (::fcntl(own.raw(), F_SETLEASE, F_RDLCK) != 0) return fail_errno();
  return ReadLease(std::move(own));
}

Status ReadLease::give_back() {
  if (::fcntl(file_.raw(), F_SETLEASE, F_UNLCK) == 0) return {};
  return fail(errno == EAGAIN ? ETIMEDOUT : errno);
}

}  // namespace vellum::sys
