#include "sys/lease.h"

#include <fcntl.h>

#include "sys/file.h"

namespace vellum::sys {

Result<ReadLease> ReadLease::take(FdRef file) {
  if (!on_local_fs(file)) return fail(EOPNOTSUPP);
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
