#include "base/result.h"

#include <gtest/gtest.h>

#include <memory>
#include <utility>

#include "base/scope.h"

namespace vellum {
namespace {

Result<int> half(int number) {
  if (number % 2 != 0) return fail(EINVAL);
  return number / 2;
}

Status even(int number) {
  if (number % 2 != 0) return fail(EDOM);
  return {};
}

TEST(Try, YieldsTheValue) {
  auto quarter = [](int number) -> Result<int> { return TRY(half(TRY(half(number)))); };
  EXPECT_EQ(quarter(12), 3);
}

TEST(Try, ReturnsTheFirstError) {
  int after = 0;
  auto quarter = [&](int number) -> Result<int> {
    int once = TRY(half(number));
    ++after;
    int twice = TRY(half(once));
    ++after;
    return twice;
  };
  EXPECT_EQ(quarter(6).error(), EINVAL);
  EXPECT_EQ(after, 1);
}

TEST(Try, TakesStatusAndAnotherResultType) {
  auto check = [](int number) -> Result<std::string> {
    TRY(even(number));
    return std::string("even");
  };
  EXPECT_EQ(check(2), "even");
  EXPECT_EQ(check(3).error(), EDOM);
}

TEST(Try, MovesWhatCannotBeCopied) {
  auto make = [](bool works) -> Result<std::unique_ptr<int>> {
    if (!works) return fail(ENOMEM);
    return std::make_unique<int>(7);
  };
  auto use = [&](bool works) -> Result<std::unique_ptr<int>> {
    std::unique_ptr<int> made = TRY(make(works));
    ++*made;
    return made;
  };
  EXPECT_EQ(**use(true), 8);
  EXPECT_EQ(use(false).error(), ENOMEM);
}

TEST(Try, SeveralInOneExpression) {
  auto sum = [](int a, int b) -> Result<int> { return TRY(half(a)) + TRY(half(b)); };
  EXPECT_EQ(sum(2, 4), 3);
  EXPECT_EQ(sum(2, 3).error(), EINVAL);
}

TEST(Errno, LastIsNeverZero) {
  errno = 0;
  EXPECT_EQ(Errno::last(), EIO);
  errno = ENOENT;
  EXPECT_EQ(Errno::last(), ENOENT);
}

TEST(Errno, MessageHasTextAndName) {
  EXPECT_EQ(Errno(ENOENT).message(), "No such file or directory (ENOENT)");
  EXPECT_FALSE(Errno(4000).message().empty());
}

TEST(Scope, OnExitRunsOnceAtTheEnd) {
  int runs = 0;
  {
    auto action = on_exit([&] { ++runs; });
    EXPECT_EQ(runs, 0);
  }
  EXPECT_EQ(runs, 1);
}

TEST(Scope, OnFailureRunsUnlessDone) {
  int runs = 0;
  {
    auto undo = on_failure([&] { ++runs; });
  }
  EXPECT_EQ(runs, 1);
  {
    auto undo = on_failure([&] { ++runs; });
    undo.done();
  }
  EXPECT_EQ(runs, 1);
}

TEST(Scope, TryRunsWhatIsToUndo) {
  int undone = 0;
  auto work = [&](int number) -> Status {
    auto undo = on_failure([&] { ++undone; });
    TRY(even(number));
    undo.done();
    return {};
  };
  EXPECT_TRUE(work(2));
  EXPECT_EQ(undone, 0);
  EXPECT_FALSE(work(3));
  EXPECT_EQ(undone, 1);
}

}  // namespace
}  // namespace vellum
