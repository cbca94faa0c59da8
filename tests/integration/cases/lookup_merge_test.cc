// What a lookup finds and a listing shows when layers are laid over each other.
#include <fcntl.h>
#include <unistd.h>

#include "support/overlay_fixture.h"

namespace vellum::test {
namespace {

TEST(Lookup, FindsLowerAndUpperFiles) {
  OverlayFixture fs({.lower = {{"d/low", File{"l"}}}, .upper = {{"d/up", File{"u"}}}});
  EXPECT_EQ(read_file(fs / "d/low"), "l");
  EXPECT_EQ(read_file(fs / "d/up"), "u");
  EXPECT_EQ(names_in(fs / "d"), (Names{"low", "up"}));
}

}  // namespace
}  // namespace vellum::test
