#include "record/site.hpp"

#include <mutex>
#include <optional>
#include <unordered_set>
#include <utility>

#include "kindred/internal/call_site.hpp"
#include "kindred/internal/lane.hpp"

namespace kindred::internal {
namespace {

constexpr std::size_t longest_format = kindred::internal::longest_kept_format;
constexpr std::size_t longest_name = 1024;
constexpr std::size_t max_types = 1024;

std::string_view tail(std::string_view text, std::size_t bytes) noexcept {
  return text.size() <= bytes ? text : text.substr(text.size() - bytes);
}

}  // namespace

void encode_site(std::vector<std::byte>& out, const SiteFacts& facts) {
  const auto format = facts.format.substr(0, longest_format);
  const auto file = tail(facts.file, longest_name);
  const auto function = facts.function.substr(0, longest_name);
  const auto types = facts.types.substr(0, max_types);
  const auto name = facts.level_name.substr(0, 255);
  const std::size_t begin = out.size();
  const std::size_t used =
      site_head_bytes + format.size() + file.size() + function.size() + types.size() + name.size();
  out.resize(begin + round_to_record(used));
  std::byte* to = out.data() + begin;
  const auto put = [&to](const void* bytes, std::size_t count) {
    if (count != 0) std::memcpy(to, bytes, count);
    to += count;
  };
  const std::uint32_t words[3] = {static_cast<std::uint32_t>(out.size() - begin), facts.line,
                                  static_cast<std::uint32_t>(format.size())};
  const std::uint16_t halves[3] = {static_cast<std::uint16_t>(file.size()),
                                   static_cast<std::uint16_t>(function.size()),
                                   static_cast<std::uint16_t>(types.size())};
  const std::uint8_t octets[2] = {static_cast<std::uint8_t>(facts.level),
                                  static_cast<std::uint8_t>(name.size())};
  put(words, sizeof words);
  put(halves, sizeof halves);
  put(octets, sizeof octets);
  for (const auto text : {format, file, function, types, name}) put(text.data(), text.size());
}

namespace {

bool decode_site(std::span<const std::byte> bytes, SiteFacts& facts) noexcept {
  ByteReader reader{bytes};
  if (reader.value<std::uint32_t>() != bytes.size()) return false;
  facts.line = reader.value<std::uint32_t>();
  const auto format = reader.value<std::uint32_t>();
  const auto file = reader.value<std::uint16_t>();
  const auto function = reader.value<std::uint16_t>();
  const auto types = reader.value<std::uint16_t>();
  const auto level = reader.value<std::uint8_t>();
  const auto name = reader.value<std::uint8_t>();
  if (level > static_cast<std::uint8_t>(Level::critical) || types > max_types || format > longest_format)
    return false;
  facts.level = static_cast<Level>(level);
  facts.format = reader.text(format);
  facts.file = reader.text(file);
  facts.function = reader.text(function);
  facts.types = reader.text(types);
  facts.level_name = reader.text(name);
  return reader.ok();
}

// The names in records. They are never freed, since users may keep records for as long as the program runs.
// There are few of them: many places share a file.
struct Names {
  SmallLock lock;
  std::unordered_set<std::string> all;  // a node each: the texts stay where they are
  std::size_t bytes = 0;
};
Names& names() {
  static auto* const known = new Names;  // never destroyed
  return *known;
}

// Its copy that stays; nothing: there is no room for it. `budget` is what one table may still add.
std::optional<std::string_view> keep_name(std::string_view name, std::optional<std::size_t>& budget) {
  if (name.empty()) return name;
  Names& known = names();
  const std::lock_guard hold{known.lock};
  std::string copy{name};
  if (const auto found = known.all.find(copy); found != known.all.end()) return *found;
  constexpr std::size_t of_a_name = 64;  // what the table takes beside the text
  const std::size_t bytes = name.size() + of_a_name;
  if (!budget) budget = (SiteTable::max_name_bytes - known.bytes) / 4;
  if (bytes > *budget || known.bytes + bytes > SiteTable::max_name_bytes) return std::nullopt;
  *budget -= bytes;
  known.bytes += bytes;
  return *known.all.insert(std::move(copy)).first;
}

std::string key_of(const SiteFacts& facts) {
  std::vector<std::byte> bytes;
  encode_site(bytes, facts);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

const Site* SiteTable::intern(std::span<const std::byte> bytes) {
  SiteFacts facts;
  if (!decode_site(bytes, facts)) return nullptr;
  const std::string key{reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  const std::lock_guard hold{lock_};
  if (const auto found = all_.find(key); found != all_.end()) return found->second.get();
  const Site* const site = add(key, facts, max_bytes);
  return site != nullptr ? site : intern_without_place(facts);
}

const Site* SiteTable::intern(const SiteFacts& facts) {
  std::vector<std::byte> bytes;
  encode_site(bytes, facts);
  return intern(bytes);
}

// Null: it would take the table beyond `most`.
const Site* SiteTable::add(const std::string& key, SiteFacts facts, std::size_t most) {
  if (bytes_ + key.size() > most) return nullptr;
  const auto file = keep_name(facts.file, name_budget_);
  const auto function = keep_name(facts.function, name_budget_);
  if (file && function) {
    facts.file = *file;
    facts.function = *function;
  } else {
    facts.file = facts.function = {};
    facts.line = 0;
  }
  auto site = std::make_unique<const Site>(facts);
  const std::size_t takes = key.size() + site->plan().bytes();
  if (bytes_ + takes > most) return nullptr;
  bytes_ += takes;
  return all_.emplace(key, std::move(site)).first->second.get();
}

// The table is full: the record is kept, but its place in the code is not, nor, where that is not enough, its
// text. Only a process that lies about the types of its arguments, too, finds no site at all.
const Site* SiteTable::intern_without_place(SiteFacts facts) {
  constexpr std::string_view unknown = "(no room is left for the texts of places that log)";
  facts.file = facts.function = {};
  facts.line = 0;
  for (;;) {
    const std::string key = key_of(facts);
    if (const auto found = all_.find(key); found != all_.end()) return found->second.get();
    if (const Site* const site = add(key, facts, max_bytes + max_bytes_without_place)) return site;
    if (facts.format == unknown) return nullptr;
    facts.format = unknown;
  }
}

Site::Site(const SiteFacts& facts)
    : level_{facts.level},
      level_name_{facts.level_name},
      source_{.file = facts.file, .line = facts.line, .function = facts.function},
      plan_{facts.format, facts.types} {}

bool Site::format(std::span<const std::byte> arguments, TextBuffer& message,
                  std::vector<Field>& fields) const {
  Arguments decoded;
  if (!plan_.decode(arguments, decoded, fields)) return false;
  plan_.append(message, decoded);
  return true;
}

}  // namespace kindred::internal
