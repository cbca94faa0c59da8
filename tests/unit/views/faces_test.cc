#include "views/faces.h"

#include <gtest/gtest.h>

#include "views/numbers.h"

namespace vellum::views {
namespace {

using fuse::HandleId;
using fuse::NodeId;

TEST(Faces, AreOneNodeForAllViews) {
  Faces faces(1);
  Faces::Released released;
  const auto a = faces.show(NodeId::kRoot, "src", 1, NodeId{10}, released);
  const auto b = faces.show(NodeId::kRoot, "src", 2, NodeId{20}, released);
  ASSERT_TRUE(a && b);
  EXPECT_EQ(*a, *b);
  EXPECT_TRUE(is_face(*a));
  EXPECT_EQ(faces.bound(*a, 1), NodeId{10});
  EXPECT_EQ(faces.bound(*a, 2), NodeId{20});
  EXPECT_TRUE(released.empty());
}

TEST(Faces, EndAtTheirDepth) {
  Faces faces(1);
  Faces::Released released;
  const auto src = faces.show(NodeId::kRoot, "src", 1, NodeId{10}, released);
  EXPECT_FALSE(faces.show(*src, "lib", 1, NodeId{11}, released));
  EXPECT_FALSE(Faces(0).show(NodeId::kRoot, "src", 1, NodeId{10}, released));
}

TEST(Faces, GiveBackALookupForEachOneTooMany) {
  Faces faces(1);
  Faces::Released released;
  const auto face = faces.show(NodeId::kRoot, "src", 1, NodeId{10}, released);
  faces.show(NodeId::kRoot, "src", 1, NodeId{10}, released);
  EXPECT_EQ(released, (Faces::Released{{1, NodeId{10}}}));
  released.clear();
  EXPECT_EQ(faces.bind(*face, 1, NodeId{12}, released), NodeId{10});
  EXPECT_EQ(released, (Faces::Released{{1, NodeId{12}}}));
}

TEST(Faces, KeepWhatAViewHasThereWhileTheKernelKnowsThem) {
  Faces faces(1);
  Faces::Released released;
  const auto face = faces.show(NodeId::kRoot, "src", 1, NodeId{10}, released);
  EXPECT_FALSE(faces.is_double(*face, 1));
  faces.set_apart(NodeId::kRoot, "src", 1);
  EXPECT_TRUE(faces.is_double(*face, 1));
  faces.vacate(NodeId::kRoot, "src", 1);
  EXPECT_TRUE(faces.is_double(*face, 1));
  EXPECT_FALSE(faces.is_double(*face, 2));
  EXPECT_FALSE(faces.show(NodeId::kRoot, "src", 1, NodeId{12}, released));  // made again
  EXPECT_FALSE(faces.shows_face(NodeId::kRoot, "src", 1));
  EXPECT_EQ(faces.bound(*face, 1), NodeId{10});
  EXPECT_EQ(faces.show(NodeId::kRoot, "src", 2, NodeId{20}, released), face);
  EXPECT_TRUE(released.empty());
  faces.vacate(NodeId::kRoot, "src", 1);
  faces.forget(*face, 2, released);
  const auto later = faces.show(NodeId::kRoot, "src", 1, NodeId{14}, released);
  ASSERT_TRUE(later);
  EXPECT_NE(later, face);
  EXPECT_FALSE(faces.is_double(*later, 1));
}

TEST(Faces, BelowOneThatWasRenamedAreDouble) {
  Faces faces(2);
  Faces::Released released;
  const auto src = faces.show(NodeId::kRoot, "src", 1, NodeId{10}, released);
  const auto lib = faces.show(*src, "lib", 1, NodeId{11}, released);
  faces.vacate(NodeId::kRoot, "src", 1);
  EXPECT_TRUE(faces.is_double(*lib, 1));
  EXPECT_FALSE(faces.is_double(NodeId::kRoot, 1));
}

TEST(Faces, GoWhenTheKernelForgotThemAllTheirLookups) {
  Faces faces(1);
  Faces::Released released;
  const auto face = faces.show(NodeId::kRoot, "src", 1, NodeId{10}, released);
  faces.show(NodeId::kRoot, "src", 2, NodeId{20}, released);
  faces.forget(*face, 1, released);
  EXPECT_TRUE(released.empty());
  faces.forget(*face, 1, released);
  EXPECT_EQ(released.size(), 2U);
  EXPECT_EQ(faces.size(), 1U);
  EXPECT_FALSE(faces.face_of(1, NodeId{10}));
}

TEST(Faces, StayWhileOneBelowDoes) {
  Faces faces(2);
  Faces::Released released;
  const auto src = faces.show(NodeId::kRoot, "src", 1, NodeId{10}, released);
  const auto lib = faces.show(*src, "lib", 1, NodeId{11}, released);
  faces.forget(*src, 1, released);
  EXPECT_TRUE(faces.place(*src));
  faces.forget(*lib, 1, released);
  EXPECT_EQ(faces.size(), 1U);
}

TEST(Faces, ANameApartIsTheViewsOwn) {
  Faces faces(1);
  Faces::Released released;
  faces.show(NodeId::kRoot, "src", 1, NodeId{10}, released);
  faces.show(NodeId::kRoot, "src", 2, NodeId{20}, released);
  faces.set_apart(NodeId::kRoot, "src", 1);
  EXPECT_FALSE(faces.shows_face(NodeId::kRoot, "src", 1));
  EXPECT_TRUE(faces.shows_face(NodeId::kRoot, "src", 2));
  EXPECT_FALSE(faces.show(NodeId::kRoot, "src", 1, NodeId{10}, released));
  faces.vacate(NodeId::kRoot, "src", 1);
  EXPECT_TRUE(faces.show(NodeId::kRoot, "src", 1, NodeId{10}, released));
}

TEST(Faces, RememberWhatTheyShowUntilTheKernelForgetsIt) {
  Faces faces(1);
  const NodeId a = outer(ViewIndex{1}, NodeId{10}), b = outer(ViewIndex{2}, NodeId{10});
  faces.shown(NodeId::kRoot, "f", a);
  faces.shown(NodeId::kRoot, "f", a);
  faces.shown(NodeId::kRoot, "g", b);
  EXPECT_EQ(faces.shown_by(1).size(), 1U);
  faces.forgotten(a, 1);
  EXPECT_EQ(faces.shown_by(1).size(), 1U);
  faces.forgotten(a, 1);
  EXPECT_TRUE(faces.shown_by(1).empty());
  EXPECT_EQ(faces.shown_by(2).size(), 1U);
  faces.drop(2);
  EXPECT_TRUE(faces.shown_by(2).empty());
}

class Contest : public ::testing::Test {
 protected:
  Faces::Telling tell(std::uint32_t owner, std::uint32_t mode, std::uint32_t caller) {
    fuse::Attr attr;
    attr.mode = S_IFDIR | mode;
    attr.uid = attr.gid = owner;
    return faces_.tell(NodeId::kRoot, attr, caller, now_);
  }
  void pass(int milliseconds) { now_ += std::chrono::milliseconds(milliseconds); }
  Faces faces_{1};
  Faces::Time now_ = std::chrono::steady_clock::now();
};

TEST_F(Contest, BeginsWhenUsersAreToldDifferentThings) {
  EXPECT_EQ(tell(1001, 0700, 1001), Faces::Telling::kTruth);
  EXPECT_FALSE(faces_.contested(now_));
  pass(100);
  EXPECT_EQ(tell(1002, 0700, 1002), Faces::Telling::kStarting);
  pass(20);
  EXPECT_EQ(tell(1001, 0700, 1001), Faces::Telling::kContested);
  EXPECT_TRUE(faces_.contested(now_));
}

TEST_F(Contest, EndsWhenOneIsAlone) {
  tell(1001, 0700, 1001);
  tell(1002, 0700, 1002);
  pass(1500);
  EXPECT_EQ(tell(1001, 0700, 1001), Faces::Telling::kTruth);
  EXPECT_TRUE(faces_.contested(now_));  // what was let through before may still be on its way
  pass(1500);
  EXPECT_FALSE(faces_.contested(now_));
}

TEST_F(Contest, IsNoneBetweenViewsOfOneOwnerOrOfRoot) {
  tell(1001, 0755, 1001);
  EXPECT_EQ(tell(1001, 0700, 1001), Faces::Telling::kTruth);
  pass(5000);
  tell(0, 0755, 0);
  EXPECT_EQ(tell(0, 0700, 0), Faces::Telling::kTruth);
}

TEST_F(Contest, IsOneBetweenWithAndWithoutAView) {
  tell(0, 0755, 1001);
  EXPECT_NE(tell(1001, 0755, 1001), Faces::Telling::kTruth);
}

TEST(Numbers, ComeBackAsTheyWent) {
  const NodeId node{0x0000'1234'5678'9abc};
  EXPECT_EQ(inner(outer(ViewIndex{77}, node)), node);
  EXPECT_EQ(view_of(outer(ViewIndex{77}, node)), 77);
  EXPECT_FALSE(is_face(outer(ViewIndex{kMaxViews - 1}, NodeId{kInnerMask})));
  EXPECT_EQ(inner(outer(ViewIndex{3}, HandleId::kNone)), HandleId::kNone);
  EXPECT_EQ(view_of(outer(ViewIndex{3}, HandleId::kNone)), 3);
}

}  // namespace
}  // namespace vellum::views
