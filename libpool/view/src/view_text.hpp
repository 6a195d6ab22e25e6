#pragma once

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <boost/json.hpp>

namespace kindred::view {

/// What pools tell, as lines of a terminal.
class ViewText {
 public:
  /// The lines of one look at all pools, of which `text` is the JSON (`PoolSet::Snapshot`). What is counted
  /// by time is the difference to the look before.
  [[nodiscard]] std::vector<std::string> lines(const std::string& text);

 private:
  using Json = boost::json::value;
  void put_pool(std::vector<std::string>& out, const Json& pool, const Json* before);
  void put_workers(std::vector<std::string>& out, const Json& view, const Json* before) const;
  void put_names(std::vector<std::string>& out, const Json& view) const;
  void put_deaths(std::vector<std::string>& out, const Json& view) const;

  Json before_;
  std::map<std::string, double> rates_;
  std::map<std::string, std::pair<double, double>> run_;
  std::map<std::string, std::pair<double, double>> queue_;
};

/// "1.5 ms"
[[nodiscard]] std::string seconds_as_text(double seconds);
/// Returns the text for one line of a terminal: a byte that would control the terminal becomes '?'.
[[nodiscard]] std::string shown(std::string_view text);

}  // namespace kindred::view
