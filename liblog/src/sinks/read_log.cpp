#include "kindred/read_log.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <optional>
#include <utility>
#include <vector>

#include "kindred/error.hpp"
#include "kindred/internal/archive.hpp"
#include "kindred/internal/packed_file.hpp"
#include "kindred/internal/record_reader.hpp"

namespace kindred {

struct LogFile::State {
  ReadLogOptions options;
  std::deque<std::string> paths;  ///< still to be opened
  std::string path;
  std::optional<internal::PackedFileReader> file;
  std::unique_ptr<internal::RecordReader> text;
  std::unique_ptr<internal::RecordReader> json;
  bool at_begin = false;  ///< of the file: a byte order mark may stand there
  std::vector<char> block = std::vector<char>(256 * 1024);
  std::size_t begin = 0;
  std::size_t end = 0;
  std::string begun_line;  ///< the part of the current line that earlier blocks held
  std::uint64_t line_number = 0;
  std::uint64_t bad_lines = 0;
  LogRecord record;

  bool open_next() {
    if (paths.empty()) return false;
    path = std::move(paths.front());
    paths.pop_front();
    try {
      file.emplace(path);
    } catch (const SystemError& error) {
      // It may have been packed since the folder was read.
      const auto packed = error.code().value() == ENOENT ? find_packed() : std::nullopt;
      if (!packed) throw;
      path = *packed;
      file.emplace(path);
    }
    at_begin = true;
    line_number = 0;
    return true;
  }

  [[nodiscard]] std::optional<std::string> find_packed() const {
    for (const auto compression : {Compression::gz, Compression::zst}) {
      auto packed = path + std::string{internal::suffix_of(compression)};
      if (internal::file_status(packed)) return packed;
    }
    return std::nullopt;
  }

  /// Returns the next whole line, without its newline; nothing at the end of the last file.
  std::optional<std::string_view> next_line() {
    begun_line.clear();
    while (true) {
      if (!file && !open_next()) return std::nullopt;
      if (begin == end) {
        begin = 0;
        end = file->read(block.data(), block.size());
        if (end == 0) {
          file.reset();
          if (!begun_line.empty()) bad("has no end");
          begun_line.clear();
          continue;
        }
      }
      const char* const from = block.data() + begin;
      const auto* const newline = static_cast<const char*>(std::memchr(from, '\n', end - begin));
      const std::size_t size = newline == nullptr ? end - begin : static_cast<std::size_t>(newline - from);
      begin += size;
      if (newline == nullptr) {
        begun_line.append(from, size);
        continue;
      }
      ++begin;
      ++line_number;
      if (begun_line.empty()) return std::string_view{from, size};
      begun_line.append(from, size);
      return begun_line;
    }
  }

  /// The line without what editors, other systems and power cuts put around it.
  std::string_view without_wrapping(std::string_view line) {
    constexpr std::string_view mark = "\xef\xbb\xbf";
    if (std::exchange(at_begin, false) && line.starts_with(mark)) line.remove_prefix(mark.size());
    line.remove_prefix(std::min(line.find_first_not_of('\0'), line.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    return line;
  }

  /// Each line is read for itself: files are put together, cut, and written to by sinks that were changed. A
  /// pattern that was given goes before what the line looks like.
  bool read(std::string_view line) {
    const auto inside = line.substr(std::min(line.find_first_not_of(" \t"), line.size()));
    const bool like_json = inside.starts_with('{');
    if (!like_json || !options.pattern.empty()) {
      record = LogRecord{};
      if (text->read(line, record)) return true;
    }
    if (!like_json) return false;
    if (!json) json = internal::make_json_reader();
    record = LogRecord{};
    if (json->read(inside, record)) return true;
    record = LogRecord{};
    return options.pattern.empty() && text->read(line, record);
  }

  void bad(const char* why) {
    ++bad_lines;
    if (options.strict)
      throw UsageError{
          "'" + path + "', line " + std::to_string(line_number) + ": the line " + why +
          ". Give the pattern that it was written with, or read without ReadLogOptions::strict to skip such lines."};
  }
};

LogFile::LogFile(std::unique_ptr<State> state) noexcept : state_{std::move(state)} {}
LogFile::LogFile(LogFile&&) noexcept = default;
LogFile& LogFile::operator=(LogFile&&) noexcept = default;
LogFile::~LogFile() = default;

std::uint64_t LogFile::bad_lines() const noexcept { return state_->bad_lines; }

LogRecord* LogFile::next() {
  auto& state = *state_;
  while (const auto line = state.next_line()) {
    const auto text = state.without_wrapping(*line);
    if (text.empty()) continue;
    if (state.read(text)) return &state.record;
    state.bad("is no record of this form");
  }
  return nullptr;
}

LogFile read_log(std::string path, ReadLogOptions options) {
  path = internal::absolute_path(path);  // files are opened one after the other
  auto state = std::make_unique<LogFile::State>();
  // Made at once, so that a pattern that cannot be read is told here.
  state->text = internal::make_text_reader(options.pattern);
  if (options.rotated) {
    internal::FileTime last{};
    for (auto& file : internal::Archive::list(path)) {
      // Where a file is there in both forms, a crash came between; one of them is enough.
      if (file.unfinished || file.rotated == last) continue;
      last = file.rotated;
      state->paths.push_back(std::move(file.path));
    }
  }
  if (!options.rotated || state->paths.empty() || internal::file_status(path))
    state->paths.push_back(std::move(path));
  state->options = std::move(options);
  state->open_next();
  return LogFile{std::move(state)};
}

}  // namespace kindred
