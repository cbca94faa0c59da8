// `vellum run [--lower A[:B]] --upper C [--at MOUNTPOINT] -- COMMAND...`: runs a command in a view of its own.
//
// Three processes: `vellum run` itself waits and leaves with the command's status; a keeper below it is the subreaper,
// so that daemons the command leaves behind stay in the view, and lives as long as they do; below that the command. To
// the views daemon a process is what its environment said when its program started, so the markers are set first and
// this program then starts itself again (`inside`).
#pragma once

#include <string>
#include <vector>

namespace vellum::cli {

struct RunCommand {
  std::vector<std::string> lowers;
  std::string upper, work;
  std::string at;
  std::string prefix = "WRAPPER";
  bool own_namespace = false;
  std::string inside;  // set by itself: the directory to start in
  std::vector<std::string> command;
};

int run_in_view(RunCommand run);

}  // namespace vellum::cli
