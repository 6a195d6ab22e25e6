#include "kindred/internal/file_sink.hpp"

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "kindred/error.hpp"
#include "kindred/internal/packed_file.hpp"
#include "kindred/internal/this_process.hpp"
#include "record/delivery.hpp"

namespace kindred::internal {

void validate(const std::string& path, const FileOptions& options) {
  if (path.empty() || path.back() == '/' || path.find('\0') != std::string::npos)
    throw UsageError{"'" + path + "' names no file. Give the path of the log file."};
  const FileNames names{path};
  if (names.directory.find(time_in_name) != std::string_view::npos ||
      names.after.find(time_in_name) != std::string_view::npos)
    throw UsageError{"'" + path +
                     "' has {time} in a folder's name, or twice. Give it once, in the file's own name."};
  if (path.find("{time:") != std::string::npos)
    throw UsageError{
        "'" + path +
        "' gives {time} a form of its own. Its form is fixed, so that names sort by time: write {time}."};
  if (options.mode > 0777)
    throw UsageError{"FileOptions::mode is " + std::to_string(options.mode) +
                     ", which is no permission. Give 0 ... 0777 (octal), as 0640."};
  constexpr std::size_t least = 4096;
  constexpr std::size_t most = 64U * 1024 * 1024;
  if (options.buffer_bytes < least || options.buffer_bytes > most)
    throw UsageError{"FileOptions::buffer_bytes is " + std::to_string(options.buffer_bytes) + ". Give " +
                     std::to_string(least) + " ... " + std::to_string(most) + "."};
}

namespace {
FileOptions with_absolute_link(FileOptions options) {
  if (!options.link.empty()) options.link = absolute_path(options.link);
  return options;
}
}  // namespace

FileSink::FileSink(const std::string& path, FileOptions options, LineFormat format, Clock now)
    : options_{with_absolute_link(std::move(options))},
      now_{now},
      format_{std::move(format)},
      path_{absolute_path(path)},
      state_{.path = path_},
      schedule_{options_.rotate},
      archive_{path_, options_, now},
      descriptor_{descriptor_of_path(path_)},
      writer_{"the log file '" + path_ + "'", options_.buffer_bytes,
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
                Delivery delivery{notice};
                format_.append(delivery, out);
                out.push_back('\n');
              }} {
  validate(path_, options_);
  check_names();
  if (!options_.delay) open();
}

/// What would fail at each rotation, or at the first record, is told at once.
void FileSink::check_names() const {
  if (descriptor_) return;
  const FileNames names{path_};
  const std::size_t most = longest_name_beside(path_);
  std::size_t longest = names.before.size() + names.after.size();
  if (!options_.rotate.empty() || names.is_timed)
    longest += stamp_bytes + suffix_of(options_.compression).size() +
               (options_.compression == Compression::none ? 0 : unfinished_suffix.size());
  if (longest > most)
    throw UsageError{"the files of '" + path_ + "' would have names of " + std::to_string(longest) +
                     " bytes, with the time of rotation in them; their folder allows " +
                     std::to_string(most) + ". Give a shorter name."};
  if (options_.link.empty()) return;
  const std::string link = absolute_path(options_.link);
  if (link == path_)
    throw UsageError{"FileOptions::link is '" + options_.link + "', the log file itself. Give another name."};
  if (const auto there = file_status(link); there && there->kind != FileKind::symlink)
    throw UsageError{"FileOptions::link is '" + options_.link + "', where there is " +
                     std::string{to_string(there->kind)} + ". Remove it, or give another name."};
}

/// Leads `link` to the file that was opened. What fails is told, and costs the log nothing.
void FileSink::keep_link() {
  if (options_.link.empty() || descriptor_) return;
  const FileNames link{options_.link};
  const FileNames file{state_.path};
  const bool beside = link.directory == file.directory;
  const int error =
      replace_link(beside ? state_.path.substr(file.directory.size()) : state_.path, options_.link);
  if (error != 0)
    complain("the link '" + options_.link + "' to the log file '" + state_.path +
             "' could not be made: " + std::generic_category().message(error));
}

FileSink::~FileSink() {
  try {
    flush();
  } catch (...) {  // no memory: what remains is counted as lost
  }
  writer_.abandon();
}

void FileSink::open() {
  if (descriptor_) {
    fd_ = duplicate_file(*descriptor_, path_);
    writer_.use(fd_.get(), false);
    return;
  }
  if (FileNames{path_}.is_timed) {
    // Each file gets a new name; a file that another process writes is never continued.
    do {
      state_.path = archive_.next_name();
    } while (file_status(state_.path));
    archive_.set_current(state_.path);
  }
  open_file();
  keep_link();
}

void FileSink::open_file() {
  if (const int error = make_directories_above(state_.path); error != 0)
    throw SystemError{"mkdir", error, "making the directories of the log file '" + state_.path + "'"};
  if (const auto there = file_status(state_.path);
      there && there->kind == FileKind::regular && there->links == 2) {
    // Crash: a rotation on a file system without RENAME_NOREPLACE stopped between its two steps, and the file
    // has both names.
    const auto rotated = Archive::list(path_);
    if (std::ranges::find(rotated, there->inode, &ArchivedFile::inode) != rotated.end())
      remove_file(state_.path);
  }
  fd_ = open_to_append(state_.path, options_.mode);
  if (first_open_ && options_.truncate) truncate_file(fd_.get(), 0);
  opened_ = file_status(fd_.get()).value_or(FileStatus{});
  const bool regular = opened_.kind == FileKind::regular;
  rotates_ = regular && !schedule_.empty();
  writer_.use(fd_.get(), regular);
  // A file that may be rotated at each line is written where its size is looked at.
  writer_.write_in_background(regular && !rotates_);
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

/// Opens the file where it is not open, and anew where it was moved away. Returns false where lines that were
/// on their way into it are kept or lost now.
bool FileSink::look_after_file() {
  if (!fd_) {
    if (!writer_.buffer().empty()) try_open();
    return true;
  }
  if (!options_.watch || descriptor_) return true;
  const auto now = std::chrono::steady_clock::now();
  if (now < next_look_) return true;
  next_look_ = now + std::chrono::seconds{1};
  const auto there = file_status(state_.path);
  if (there && there->same_file(opened_)) return true;
  const bool written = writer_.settle();
  writer_.detach();
  fd_.reset();
  try_open();
  return written;
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
    while (!FileNames{path_}.is_timed &&
           (error = rename_to_free_name(state_.path, archive_.next_name())) == EEXIST) {}
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

bool FileSink::rotation_is_due(Delivery& delivery, std::size_t begin) {
  if (writer_.failing()) return false;
  state_.bytes = writer_.file_bytes() + begin;
  const std::size_t line = writer_.buffer().size() - begin;
  try {
    if (schedule_.too_large(line, state_)) {
      // Before the file goes: is it as large as it was? Another program may have cut it.
      writer_.look_at_size();
      state_.bytes = writer_.file_bytes() + begin;
    }
    return schedule_.due(schedule_.asks() ? delivery.whole() : delivery.facts(), line, state_, now_);
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
  Delivery delivery{record};
  deliver(delivery);
}

void FileSink::deliver(Delivery& delivery) {
  auto& buffer = writer_.buffer();
  if (!fd_) [[unlikely]]
    try_open();
  const std::size_t begin = buffer.size();
  try {
    format_.append(delivery, buffer);
    buffer.push_back('\n');
  } catch (...) {
    buffer.truncate(begin);  // no half line
    throw;
  }
  if (rotates_ || writer_.needs_care()) [[unlikely]]
    end_line_with_care(delivery, begin);
  ++state_.records;  // of the file that the line is in: it may be a new one
}

/// Behind a line that began at `begin`: rotates, opens the file anew and writes, as far as that is due.
void FileSink::end_line_with_care(Delivery& delivery, std::size_t begin) {
  auto& buffer = writer_.buffer();
  const std::size_t length = buffer.size() - begin;
  if (rotates_ && rotation_is_due(delivery, begin)) rotate(begin);
  if (buffer.size() >= writer_.limit() && !look_after_file()) return;  // the line is kept or counted
  writer_.end_line(buffer.size() - length);
}

void FileSink::flush() {
  static_cast<void>(writer_.settle());
  static_cast<void>(look_after_file());
  writer_.drain();
}

}  // namespace kindred::internal
