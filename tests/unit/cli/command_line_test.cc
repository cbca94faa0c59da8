#include "cli/command_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vellum::cli {
namespace {

using testing::ElementsAre;
using Words = std::vector<std::string>;

TEST(CommandLine, WordsInBracketsAreNoLists) {
  CLI::App app;
  Words paths, several;
  std::string one;
  app.add_option("PATHS", paths);
  app.add_option("--each", several)->allow_extra_args(false);
  app.add_option("--one", one);
  const Words arguments = {"[a,b]", "--each", "[c,d]", "[]", "--one=[e]", "[[f]]", "", "g]"};
  EXPECT_EQ(parse_words(app, arguments), std::nullopt);
  EXPECT_THAT(paths, ElementsAre("[a,b]", "[]", "[[f]]", "", "g]"));
  EXPECT_THAT(several, ElementsAre("[c,d]"));
  EXPECT_EQ(one, "[e]");
}

TEST(CommandLine, WordsOfSubcommandsToo) {
  CLI::App app;
  Words paths;
  app.add_subcommand("show")->add_option("PATHS", paths)->required()->expected(2);
  EXPECT_EQ(parse_words(app, Words{"show", "[a,b]", "[c]"}), std::nullopt);
  EXPECT_THAT(paths, ElementsAre("[a,b]", "[c]"));
}

struct Cut {
  Words arguments, options, command;
};
class TakeCommand : public testing::TestWithParam<Cut> {};

TEST_P(TakeCommand, EndsTheOptions) {
  CLI::App app;
  std::string value;
  bool flag = false;
  app.add_option("--upper", value);
  app.add_flag("--namespace", flag);
  Words arguments = GetParam().arguments;
  EXPECT_EQ(take_command(app, arguments, 0), GetParam().command);
  EXPECT_EQ(arguments, GetParam().options);
}

INSTANTIATE_TEST_SUITE_P(
    Cuts, TakeCommand,
    testing::Values(Cut{{}, {}, {}}, Cut{{"--upper"}, {"--upper"}, {}},
                    Cut{{"--upper", "u", "--", "a", "--", "b"}, {"--upper", "u"}, {"a", "--", "b"}},
                    Cut{{"--upper", "u", "a", "--", "-b"}, {"--upper", "u"}, {"a", "--", "-b"}},
                    Cut{{"--upper=u", "--namespace", "[a,b]", "++"}, {"--upper=u", "--namespace"}, {"[a,b]", "++"}},
                    Cut{{"--unknown", "a"}, {"--unknown"}, {"a"}},
                    Cut{{"--namespace", "-", "a"}, {"--namespace"}, {"-", "a"}},
                    Cut{{"--upper", "u", "--"}, {"--upper", "u"}, {}}, Cut{{"", "a"}, {}, {"", "a"}}));

}  // namespace
}  // namespace vellum::cli
