// --seed N replays one run, --sequences N, --ops N and --seconds N bound it, --backend vellum|kernel|peer chooses
// the file system under test. Each is also an environment variable (VELLUM_TEST_SEED and so on).
// VELLUM_TEST_SHORTER divides what --seconds says.
#include <gtest/gtest.h>

#include "parameters.h"
#include "sandbox.h"

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  if (::testing::GTEST_FLAG(list_tests)) return RUN_ALL_TESTS();
  if (!vellum::random_test::parse_parameters(argc, argv)) return 2;
  return vellum::random_test::run_in_sandbox([] { return RUN_ALL_TESTS(); });
}
