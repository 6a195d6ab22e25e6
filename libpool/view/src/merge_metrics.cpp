#include "merge_metrics.hpp"

#include <map>
#include <sstream>
#include <string_view>

namespace kindred::view {

std::string merge_metrics(const std::vector<std::string>& texts) {
  struct Family {
    std::string type;
    std::string help;
    std::string samples;
  };
  std::vector<std::string> order;
  std::map<std::string, Family> families;
  for (const auto& text : texts) {
    Family* family = nullptr;
    std::istringstream lines{text};
    for (std::string line; std::getline(lines, line);) {
      if (line.starts_with("# TYPE ")) {
        const std::string name = line.substr(7, line.find(' ', 7) - 7);
        if (!families.contains(name)) order.push_back(name);
        family = &families[name];
        family->type = line;
      } else if (line.starts_with("# HELP ") && family != nullptr) {
        family->help = line;
      } else if (!line.starts_with('#') && family != nullptr) {
        family->samples += line + '\n';
      }
    }
  }
  std::string out;
  for (const auto& name : order) {
    const Family& family = families[name];
    out += family.type + '\n' + family.help + '\n' + family.samples;
  }
  return out + "# EOF\n";
}

}  // namespace kindred::view
