#include "kindred/internal/archive.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <map>

#include "kindred/error.hpp"
#include "kindred/internal/line_writer.hpp"
#include "kindred/internal/packed_file.hpp"

namespace kindred::internal {
namespace {

/// A stamp that is so far ahead of the clock was made by a clock that was wrong (or the clock is wrong now).
constexpr auto believable = std::chrono::hours{24};

/// How long the caller works itself at the end of an archive.
constexpr auto patience_of_caller = std::chrono::seconds{2};

constexpr std::size_t stamp_size = stamp_bytes - 1;

std::string to_stamp(FileTime time) {
  const auto day = std::chrono::floor<std::chrono::days>(time);
  const std::chrono::year_month_day date{day};
  const auto micro = std::chrono::duration_cast<std::chrono::microseconds>(time - day).count();
  return fmt::format("{:04}{:02}{:02}T{:02}{:02}{:02}.{:06}Z", static_cast<int>(date.year()),
                     static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
                     micro / 3'600'000'000, micro / 60'000'000 % 60, micro / 1'000'000 % 60,
                     micro % 1'000'000);
}

std::optional<FileTime> from_stamp(std::string_view text) {
  if (text.size() != stamp_size || text[8] != 'T' || text[15] != '.' || text[22] != 'Z') return std::nullopt;
  const auto number = [&](std::size_t at, std::size_t digits) {
    int value = -1;
    const auto* const end = text.data() + at + digits;
    const auto read = std::from_chars(text.data() + at, end, value);
    return read.ec == std::errc{} && read.ptr == end && value >= 0 ? value : 1'000'000;
  };
  const std::chrono::year_month_day date{std::chrono::year{number(0, 4)},
                                         std::chrono::month{static_cast<unsigned>(number(4, 2))},
                                         std::chrono::day{static_cast<unsigned>(number(6, 2))}};
  const int hour = number(9, 2);
  const int minute = number(11, 2);
  const int second = number(13, 2);
  const int micro = number(16, 6);
  if (!date.ok() || hour > 23 || minute > 59 || second > 59 || micro > 999'999) return std::nullopt;
  return FileTime{std::chrono::sys_days{date}.time_since_epoch() + std::chrono::hours{hour} +
                  std::chrono::minutes{minute} + std::chrono::seconds{second} +
                  std::chrono::microseconds{micro}};
}

}  // namespace

FileNames::FileNames(std::string_view path) noexcept {
  const auto slash = path.rfind('/');
  const std::size_t name = slash == std::string_view::npos ? 0 : slash + 1;
  directory = path.substr(0, name);
  if (const auto time = path.find(time_in_name, name); time != std::string_view::npos) {
    is_timed = true;
    before = path.substr(name, time - name);
    after = path.substr(time + time_in_name.size());
    return;
  }
  const auto dot = path.rfind('.');
  const std::size_t extension = dot == std::string_view::npos || dot <= name ? path.size() : dot;
  before = path.substr(name, extension - name);
  after = path.substr(extension);
  dotted = true;
}

std::vector<ArchivedFile> Archive::list(const std::string& path) {
  const FileNames names{path};
  const auto directory = names.directory;
  std::vector<ArchivedFile> found;
  for (const auto& name : names_in_directory(directory.empty() ? "." : std::string{directory})) {
    std::string_view rest = name;
    const std::size_t stamp_at = names.before.size() + (names.dotted ? 1 : 0);
    if (!rest.starts_with(names.before) || rest.size() < stamp_at + stamp_size ||
        (names.dotted && rest[names.before.size()] != '.'))
      continue;
    rest.remove_prefix(stamp_at);
    const auto rotated = from_stamp(rest.substr(0, stamp_size));
    rest.remove_prefix(stamp_size);
    if (!rotated || !rest.starts_with(names.after)) continue;
    rest.remove_prefix(names.after.size());
    ArchivedFile file;
    file.rotated = *rotated;
    file.unfinished = rest.ends_with(unfinished_suffix);
    if (file.unfinished) rest.remove_suffix(unfinished_suffix.size());
    if (rest == suffix_of(Compression::gz))
      file.packed = Compression::gz;
    else if (rest == suffix_of(Compression::zst))
      file.packed = Compression::zst;
    else if (!rest.empty() || file.unfinished)
      continue;
    file.path = std::string{directory} + name;
    const auto status = file_status(file.path);
    // Ours are plain files; whatever else has such a name is left alone.
    if (!status || status->kind != FileKind::regular) continue;
    file.bytes = status->bytes;
    file.inode = status->inode;
    file.modified = status->modified;
    found.push_back(std::move(file));
  }
  std::ranges::sort(found, [](const ArchivedFile& a, const ArchivedFile& b) {
    return std::pair{a.rotated, a.packed} < std::pair{b.rotated, b.packed};
  });
  return found;
}

Archive::Archive(std::string path, const FileOptions& options, FileTime (*now)(),
                 std::chrono::milliseconds patience_with_thread)
    : path_{std::move(path)}, options_{options}, now_{now}, patience_with_thread_{patience_with_thread} {}

Archive::~Archive() {
  if (!thread_.joinable()) return;
  bool is_left = false;
  {
    std::unique_lock lock{mutex_};
    is_left = !changed_.wait_for(lock, patience_with_thread_, [&] { return !wanted_ && !busy_; });
    stop_ = true;
    limit_.stop();
  }
  changed_.notify_all();
  thread_.join();
  if (!is_left) return;
  limit_.allow_for(patience_of_caller);
  tidy_and_report();
}

std::string Archive::next_name() {
  const auto now = std::chrono::floor<std::chrono::microseconds>(now_()) + std::chrono::nanoseconds{0};
  if (!looked_) {
    for (const auto& file : list(path_)) {
      if (file.rotated <= now + believable) last_name_ = std::max(last_name_, file.rotated);
    }
    looked_ = true;
  }
  // The clock was set back by much: it was wrong before.
  if (last_name_ > now + believable) last_name_ = {};
  last_name_ = std::max(now, last_name_ + std::chrono::microseconds{1});
  const FileNames names{path_};
  return fmt::format("{}{}{}{}{}", names.directory, names.before, names.dotted ? "." : "",
                     to_stamp(last_name_), names.after);
}

void Archive::set_current(const std::string& path) {
  const std::lock_guard lock{mutex_};
  current_ = path;
}

/// The files that are rotated: not the one that is written now.
std::vector<ArchivedFile> Archive::aside() {
  std::string current;
  {
    const std::lock_guard lock{mutex_};
    current = current_;
  }
  auto files = list(path_);
  std::erase_if(files, [&](const ArchivedFile& file) { return file.path == current; });
  // Where the stamp cannot be right, the file is as old as its last write.
  const auto now = now_();
  for (auto& file : files) {
    if (file.rotated > now + believable) file.rotated = std::min(file.rotated, file.modified);
  }
  std::ranges::stable_sort(files, {}, &ArchivedFile::rotated);
  return files;
}

void Archive::tidy() {
  if (options_.compression == Compression::none && options_.retention.empty()) return;
  {
    const std::lock_guard lock{mutex_};
    wanted_ = true;
    if (!thread_.joinable()) thread_ = std::thread{[this] { run(); }};
  }
  changed_.notify_all();
}

void Archive::tidy_leftovers() {
  if ((options_.compression != Compression::none || !options_.retention.empty()) && !aside().empty()) tidy();
}

void Archive::wait_idle() {
  std::unique_lock lock{mutex_};
  changed_.wait(lock, [&] { return !wanted_ && !busy_; });
}

void Archive::run() {
  begin_background_thread("kindred-archive");
  std::unique_lock lock{mutex_};
  while (true) {
    changed_.wait(lock, [&] { return wanted_ || stop_; });
    if (stop_) return;
    wanted_ = false;
    busy_ = true;
    lock.unlock();
    tidy_and_report();
    lock.lock();
    busy_ = false;
    changed_.notify_all();
  }
}

void Archive::tidy_and_report() noexcept {
  try {
    tidy_once();
  } catch (const std::exception& error) {
    complain("the rotated files of '" + path_ + "': " + error.what());
  } catch (...) {
    complain("the rotated files of '" + path_ +
             "': the function in FileOptions::retention threw something that is no std::exception.");
  }
}

void Archive::finish_interrupted() {
  std::map<FileTime, const ArchivedFile*> packed;
  const auto files = aside();
  for (const auto& file : files) {
    if (file.unfinished)
      remove_file(file.path);
    else if (file.packed != Compression::none)
      packed.emplace(file.rotated, &file);
  }
  for (const auto& file : files) {
    const auto twin = packed.find(file.rotated);
    if (file.packed != Compression::none || twin == packed.end()) continue;
    if (same_content(file.path, twin->second->path, limit_))
      remove_file(file.path);
    else if (!limit_.is_reached())
      complain("'" + file.path + "' and '" + twin->second->path +
               "' do not hold the same. Both are kept: remove the one that is wrong.");
  }
}

void Archive::tidy_once() {
  finish_interrupted();
  // First what goes whatever packing makes of it, so that nothing is packed to be removed.
  if (!limit_.is_reached()) remove_excess(Limits::that_packing_does_not_change);
  if (options_.compression != Compression::none) pack_all();
  if (!limit_.is_reached()) remove_excess(Limits::all);
}

void Archive::pack_all() {
  const auto files = aside();
  for (const auto& file : files) {
    if (limit_.is_reached()) return;
    const bool has_twin = std::ranges::any_of(files, [&](const ArchivedFile& other) {
      return other.rotated == file.rotated && other.packed != Compression::none;
    });
    if (file.packed != Compression::none || has_twin) continue;
    try {
      if (!pack_file(file.path, options_.compression, limit_)) return;
    } catch (const Error& error) {
      complain(error.what());
      return;
    }
  }
}

void Archive::remove_excess(Limits limits) {
  if (options_.retention.empty()) return;
  std::vector<RotatedFile> kept;
  for (auto& file : aside())
    if (!file.unfinished) kept.push_back({std::move(file.path), file.bytes, file.rotated});
  const auto remove = [&](const std::string& path) {
    if (const int error = remove_file(path); error != 0 && error != ENOENT)
      complain("removing '" + path + "' failed: " + std::generic_category().message(error) + ".");
  };
  const auto remove_first = [&] {
    remove(kept.front().path);
    kept.erase(kept.begin());
  };
  for (const auto& limit : options_.retention) {
    // The order of the limits counts: after one that looks at sizes or asks, the rest waits for the packing.
    const bool looks_at_packed =
        limit.kind() == RetainLimit::Kind::bytes || limit.kind() == RetainLimit::Kind::chooser;
    if (limits == Limits::that_packing_does_not_change && looks_at_packed) return;
    switch (limit.kind()) {
      case RetainLimit::Kind::count:
        while (kept.size() > limit.amount()) remove_first();
        break;
      case RetainLimit::Kind::age:
        while (!kept.empty() && now_() - kept.front().rotated > std::chrono::seconds{limit.amount()})
          remove_first();
        break;
      case RetainLimit::Kind::bytes: {
        std::uint64_t total = 0;
        for (const auto& file : kept) total += file.bytes;
        while (!kept.empty() && total > limit.amount()) {
          total -= kept.front().bytes;
          remove_first();
        }
        break;
      }
      case RetainLimit::Kind::chooser:
        for (const auto& chosen : limit.chooser()(kept)) {
          const auto found = std::ranges::find(kept, chosen.path, &RotatedFile::path);
          if (found == kept.end()) continue;  // not one of ours: not touched
          remove(chosen.path);
          kept.erase(found);
        }
        break;
    }
  }
}

}  // namespace kindred::internal
