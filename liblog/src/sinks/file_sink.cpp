#include "kindred/internal/file_sink.hpp"

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "kindred/error.hpp"

namespace kindred::internal {

void validate(const std::string& path, const FileOptions& options) {
  if (path.empty() || path.back() == '/' || path.find('\0') != std::string::npos)
    throw UsageError{"'" + path + "' names no file. Give the path of the log file."};
  if (options.mode > 0777)
    throw UsageError{"FileOptions::mode is " + std::to_string(options.mode) +
                     ", which is no permission. Give 0 ... 0777 (octal), as 0640."};
  constexpr std::size_t least = 4096;
  constexpr std::size_t most = 64U * 1024 * 1024;
  if (options.buffer_bytes < least || options.buffer_bytes > most)
    throw UsageError{"FileOptions::buffer_bytes is " + std::to_string(options.buffer_bytes) + ". Give " +
                     std::to_string(least) + " ... " + std::to_string(most) + "."};
}

FileSink::FileSink(std::string path, FileOptions options, LineFormat format, Clock now)
    : options_{std::move(options)},
      now_{now},
      format_{std::move(format)},
      state_{.path = std::move(path)},
      schedule_{options_.rotate},
      archive_{state_.path, options_, now},
      writer_{"the log file '" + state_.path + "'", options_.buffer_bytes,
              [this](std::uint64_t lost, int error, TextBuffer& out) {
                LogRecord notice;
                notice.time = now_();
                notice.level = Level::warn;
                notice.logger = "kindred";
                notice.pid = process_id();
                notice.tid = thread_id();
                notice.origin = Origin::lifecycle;
                notice.message = std::to_string(lost) +
                                 " records are missing here: " + std::generic_category().message(error) +
                                 " (errno " + std::to_string(error) + ")";
                notice.fields.push_back({"records_lost", lost});
                format_(notice, out);
                out.push_back('\n');
              }} {
  validate(state_.path, options_);
  if (!options_.delay) open();
}

FileSink::~FileSink() {
  try {
    flush();
  } catch (...) {  // no memory: what remains is counted as lost
  }
  writer_.abandon();
}

void FileSink::open() {
  if (const int error = make_directories_above(state_.path); error != 0)
    throw SystemError{"mkdir", error, "making the directories of the log file '" + state_.path + "'"};
  if (const auto there = file_status(state_.path);
      there && there->kind == FileKind::regular && there->links == 2) {
    // Crash: a rotation on a file system without RENAME_NOREPLACE stopped between its two steps, and the file
    // has both names.
    const auto rotated = Archive::list(state_.path);
    if (std::ranges::find(rotated, there->inode, &ArchivedFile::inode) != rotated.end())
      remove_file(state_.path);
  }
  fd_ = open_to_append(state_.path, options_.mode);
  if (first_open_ && options_.truncate) truncate_file(fd_.get(), 0);
  opened_ = file_status(fd_.get()).value_or(FileStatus{});
  const bool regular = opened_.kind == FileKind::regular;
  rotates_ = regular && !schedule_.empty();
  writer_.use(fd_.get(), opened_.bytes, regular);
  state_.bytes = opened_.bytes;
  state_.records = 0;
  // A file that a former run began keeps its age.
  state_.opened = regular && opened_.bytes != 0 ? std::min(opened_.born, now_()) : now_();
  schedule_.begin(state_.opened);
  if (first_open_ && regular) archive_.tidy_leftovers();
  first_open_ = false;
}

bool FileSink::try_open() {
  if (writer_.failing() && !writer_.may_try_again()) return false;
  try {
    open();
    return true;
  } catch (const SystemError& error) {
    writer_.use_none(error.code().value());
  } catch (const UsageError& error) {
    if (!writer_.failing()) complain(error.what());
    writer_.use_none(EPERM);
  }
  return false;
}

void FileSink::look_after_file() {
  if (!fd_) {
    if (!writer_.buffer().empty()) try_open();
    return;
  }
  if (!options_.watch) return;
  const auto now = std::chrono::steady_clock::now();
  if (now < next_look_) return;
  next_look_ = now + std::chrono::seconds{1};
  const auto there = file_status(state_.path);
  if (there && there->same_file(opened_)) return;
  writer_.detach();
  fd_.reset();
  try_open();
}

void FileSink::rotate(std::size_t begin) {
  const auto now = std::chrono::steady_clock::now();
  if (now < next_rotation_ || !writer_.drain(begin)) return;
  // Order: the file is closed under its new name before the next one is made, so a crash in between leaves
  // only whole files, and the next start makes the one that is missing.
  const auto there = file_status(state_.path);
  int error = 0;
  if (there && there->same_file(opened_)) {
    if (there->bytes == 0) {
      state_.opened = now_();
      schedule_.begin(state_.opened);
      return;
    }
    do {
      error = rename_to_free_name(state_.path, archive_.next_name());
    } while (error == EEXIST);
  }
  if (error != 0) {
    next_rotation_ = now + std::chrono::seconds{1};
    complain("rotating '" + state_.path + "' failed: " + std::generic_category().message(error) +
             ". The log goes on in the same file.");
    return;
  }
  writer_.detach();
  fd_.reset();
  try_open();
  archive_.tidy();
}

bool FileSink::rotation_is_due(const LogRecord& record, std::size_t begin) {
  if (!rotates_ || writer_.failing()) return false;
  state_.bytes = writer_.file_bytes() + begin;
  try {
    return schedule_.due(record, writer_.buffer().size() - begin, state_, now_);
  } catch (const std::exception& error) {
    complain_of_function(error.what());
  } catch (...) {
    complain_of_function("something that is no std::exception");
  }
  return false;
}

void FileSink::complain_of_function(const char* what) {
  const auto now = std::chrono::steady_clock::now();
  if (now < next_complaint_) return;
  next_complaint_ = now + std::chrono::seconds{1};
  complain("the function in FileOptions::rotate of '" + state_.path + "' threw " + what +
           ". The log goes on in the same file.");
}

void FileSink::write(const LogRecord& record) {
  auto& buffer = writer_.buffer();
  if (!fd_) try_open();
  const std::size_t begin = buffer.size();
  try {
    format_(record, buffer);
    buffer.push_back('\n');
  } catch (...) {
    buffer.truncate(begin);  // no half line
    throw;
  }
  const std::size_t length = buffer.size() - begin;
  if (rotation_is_due(record, begin)) rotate(begin);
  if (buffer.size() >= writer_.limit()) look_after_file();
  writer_.end_line(buffer.size() - length);
  ++state_.records;
}

void FileSink::flush() {
  look_after_file();
  writer_.drain();
}

}  // namespace kindred::internal
