#include "kindred/sink_options.hpp"

namespace kindred {

bool logger_is_below(std::string_view name, std::string_view prefix) noexcept {
  if (!name.starts_with(prefix)) return false;
  if (prefix.empty() || name.size() == prefix.size()) return true;
  const char next = name[prefix.size()];
  return next == '.' || next == '/' || next == ':';
}

bool LogFilter::accepts(const LogRecord& record) const {
  if (predicate_ && !predicate_(record)) return false;
  const std::pair<std::string, Level>* best = nullptr;
  for (const auto& entry : levels_)
    if (logger_is_below(record.logger, entry.first) &&
        (best == nullptr || entry.first.size() >= best->first.size()))
      best = &entry;
  return best == nullptr || record.level >= best->second;
}

}  // namespace kindred
