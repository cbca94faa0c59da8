// Before a mount that is still served is taken away: what the kernel holds of open files would be lost with the
// connection.
//
// Waits until it is written, at most ten seconds: a server that hangs must not keep the mount from ending. What may be
// lost then is said in the log. Threads: call it from one that serves nothing, while the session runs.
#pragma once

#include "fuse/mount.h"
#include "fuse/session.h"

namespace vellum::fuse {

void write_out(const Mount& mount, const Session& session);

}  // namespace vellum::fuse
