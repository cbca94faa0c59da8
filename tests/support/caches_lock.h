// What one test drops of the kernel's caches is gone for the whole machine. Who drops them holds this lock alone; tests
// that count requests share it (scripts: caches_kept in integration/programs/lib.sh).
#pragma once

#include <fcntl.h>
#include <sys/file.h>

namespace vellum::test {

// Each holder opens it anew: a lock belongs to the open file.
inline int open_caches_lock() { return ::open("/run/lock/vellum-test-caches", O_RDONLY | O_CREAT | O_CLOEXEC, 0644); }

}  // namespace vellum::test
