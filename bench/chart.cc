#include <fmt/format.h>

#include <cstdio>

#include "files.h"
#include "report.h"

namespace vellum::bench {
namespace {

// gnuplot takes an underscore for a subscript.
std::string plain(std::string name) {
  for (char& c : name) c = c == '_' ? ' ' : c;
  return name;
}

}  // namespace

void draw_chart(const Results& results, const std::string& base, const std::string& path) {
  const std::vector<std::string> circumstances = results.circumstances();
  if (circumstances.empty()) return;
  const std::string& where = circumstances[0];
  std::vector<std::string> systems;
  for (const std::string& system : results.systems()) {
    if (system != base && system != "native") systems.push_back(system);
  }
  if (systems.empty()) return;

  // One row per workload, one column per system, as an inline table.
  std::string table = "$data << EOD\n";
  std::size_t rows = 0;
  const auto add_row = [&](const std::string& name, auto value_of) {
    table += '"' + plain(name) + '"';
    for (const std::string& system : systems) {
      const auto value = value_of(system);
      table += value ? fmt::format(" {:.4g}", *value) : " NaN";
    }
    table += '\n';
    ++rows;
  };
  for (const std::string& workload : results.workloads(where)) {
    add_row(workload, [&](const std::string& system) { return results.ratio(where, workload, system, base); });
  }
  add_row("geometric mean", [&](const std::string& system) -> std::optional<double> {
    const auto mean = results.geometric_mean(where, system, base);
    return mean ? std::optional(mean->value) : std::nullopt;
  });
  table += "EOD\n";

  std::string plots;
  for (std::size_t i = 0; i < systems.size(); ++i) {
    plots += fmt::format("{}$data using {}:xtic(1) title '{}'", plots.empty() ? "" : ", ", i + 2, plain(systems[i]));
  }
  const std::string script = fmt::format(
      "set terminal svg size {},520 background '#ffffff' font 'sans-serif,12'\nset output '{}'\n"
      "set title 'Time relative to {} ({}), logarithmic; lower is better'\n"
      "set style data histograms\nset style histogram clustered gap 1\nset style fill solid 0.9 noborder\n"
      "set logscale y 2\nset yrange [0.5:*]\nset grid ytics\nset xtics rotate by 40 right nomirror scale 0\n"
      "set key top left horizontal\nset format y '%gx'\n"
      "set linetype 1 lc rgb '#b0b7c3'\nset linetype 2 lc rgb '#7a869a'\nset linetype 3 lc rgb '#0b7285'\n"
      "set linetype 4 lc rgb '#e8590c'\nset linetype 5 lc rgb '#5f3dc4'\n{}plot {}, 1 with lines linecolor rgb "
      "'#212529' linewidth 1 notitle\n",
      std::max<std::size_t>(700, rows * 34 + 120), path, plain(base), where, table, plots);
  std::FILE* gnuplot = ::popen("gnuplot", "we");
  if (gnuplot == nullptr) must(-1, "start", "gnuplot");
  std::fwrite(script.data(), 1, script.size(), gnuplot);
  if (::pclose(gnuplot) != 0) throw Failure("gnuplot did not draw " + path);
}

}  // namespace vellum::bench
