#include "kindred/internal/packed_file.hpp"

#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <vector>

#include "kindred/error.hpp"
#include "kindred/internal/files.hpp"

namespace kindred::internal {
namespace {

constexpr std::size_t block_bytes = 128 * 1024;

void write_all(int fd, const char* bytes, std::size_t size, const std::string& path) {
  while (size != 0) {
    const auto written = write_some(fd, {bytes, size});
    if (written <= 0)
      throw SystemError{"write", static_cast<int>(written == 0 ? EIO : -written),
                        "packing into '" + path + "'",
                        "The file stays as it was, and is packed at the next rotation or start."};
    bytes += written;
    size -= static_cast<std::size_t>(written);
  }
}

std::size_t read_or_throw(int fd, char* target, std::size_t bytes, const std::string& path) {
  const auto got = read_some(fd, target, bytes);
  if (got < 0) throw SystemError{"read", static_cast<int>(-got), "reading '" + path + "'"};
  return static_cast<std::size_t>(got);
}

/// Takes plain bytes, gives packed ones to the file.
class Packer {
 public:
  virtual ~Packer() = default;
  virtual void pack(const char* bytes, std::size_t size, bool last) = 0;
};

class GzPacker final : public Packer {
 public:
  GzPacker(int fd, const std::string& path) : fd_{fd}, path_{path}, out_(block_bytes) {
    constexpr int gzip_header = 16;
    if (deflateInit2(&stream_, 6, Z_DEFLATED, MAX_WBITS + gzip_header, 8, Z_DEFAULT_STRATEGY) != Z_OK)
      throw std::bad_alloc{};
  }
  ~GzPacker() override { deflateEnd(&stream_); }
  void pack(const char* bytes, std::size_t size, bool last) override {
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes));
    stream_.avail_in = static_cast<uInt>(size);
    int result = Z_OK;
    do {
      stream_.next_out = reinterpret_cast<Bytef*>(out_.data());
      stream_.avail_out = static_cast<uInt>(out_.size());
      result = deflate(&stream_, last ? Z_FINISH : Z_NO_FLUSH);
      write_all(fd_, out_.data(), out_.size() - stream_.avail_out, path_);
    } while (last ? result != Z_STREAM_END : stream_.avail_out == 0);
  }

 private:
  int fd_;
  const std::string& path_;
  std::vector<char> out_;
  z_stream stream_{};
};

class ZstPacker final : public Packer {
 public:
  ZstPacker(int fd, const std::string& path)
      : fd_{fd}, path_{path}, out_(block_bytes), context_{ZSTD_createCCtx(), &ZSTD_freeCCtx} {
    if (!context_) throw std::bad_alloc{};
    ZSTD_CCtx_setParameter(context_.get(), ZSTD_c_checksumFlag, 1);
  }
  void pack(const char* bytes, std::size_t size, bool last) override {
    ZSTD_inBuffer in{bytes, size, 0};
    while (true) {
      ZSTD_outBuffer out{out_.data(), out_.size(), 0};
      const std::size_t left =
          ZSTD_compressStream2(context_.get(), &out, &in, last ? ZSTD_e_end : ZSTD_e_continue);
      if (ZSTD_isError(left) != 0U) throw std::bad_alloc{};  // here only memory can be missing
      write_all(fd_, out_.data(), out.pos, path_);
      if (last ? left == 0 : in.pos == in.size) return;
    }
  }

 private:
  int fd_;
  const std::string& path_;
  std::vector<char> out_;
  std::unique_ptr<ZSTD_CCtx, std::size_t (*)(ZSTD_CCtx*)> context_;
};

}  // namespace

std::string_view suffix_of(Compression compression) noexcept {
  switch (compression) {
    case Compression::gz: return ".gz";
    case Compression::zst: return ".zst";
    case Compression::none: break;
  }
  return "";
}

bool pack_file(const std::string& path, Compression compression, const WorkLimit& limit) {
  const std::string packed = path + std::string{suffix_of(compression)};
  const std::string unfinished = packed + std::string{unfinished_suffix};
  const Descriptor source = open_to_read(path, false);
  remove_file(unfinished);
  Descriptor target = create_file(unfinished, 0600);
  try {
    const auto packer = compression == Compression::gz
                            ? std::unique_ptr<Packer>{std::make_unique<GzPacker>(target.get(), unfinished)}
                            : std::make_unique<ZstPacker>(target.get(), unfinished);
    std::vector<char> block(block_bytes);
    while (true) {
      if (limit.is_reached()) {
        remove_file(unfinished);
        return false;
      }
      const std::size_t got = read_or_throw(source.get(), block.data(), block.size(), path);
      packer->pack(block.data(), got, got == 0);
      if (got == 0) break;
    }
    copy_mode_and_time(source.get(), target.get());
    // Order: the bytes, then the name, are on the disk before the source goes.
    // Crash: before the rename the ".part" is thrown away at the next start and packing begins anew; after it
    // both files are there, and the next start removes the source once it has seen that they hold the same.
    if (const int error = sync_file(target.get()); error != 0)
      throw SystemError{"fsync", error, "packing into '" + packed + "'"};
    if (const int error = rename_to_free_name(unfinished, packed); error != 0)
      throw SystemError{"rename", error, "giving the packed file '" + packed + "' its name"};
    sync_directory_of(packed);
    if (const int error = remove_file(path); error != 0)
      throw SystemError{"unlink", error, "removing '" + path + "', which is packed now"};
    return true;
  } catch (...) {
    remove_file(unfinished);
    throw;
  }
}

struct PackedFileReader::State {
  enum class Form { plain, gz, zst };
  Descriptor fd;
  std::string path;
  Form form = Form::plain;
  std::vector<char> in = std::vector<char>(block_bytes);
  std::size_t begin = 0;
  std::size_t end = 0;
  bool within = false;  ///< a packed stream has begun and not ended
  bool source_ended = false;
  z_stream gz{};
  std::unique_ptr<ZSTD_DCtx, std::size_t (*)(ZSTD_DCtx*)> zst{nullptr, &ZSTD_freeDCtx};

  ~State() {
    if (form == Form::gz) inflateEnd(&gz);
  }
  void fill() {
    if (begin != end || source_ended) return;
    begin = 0;
    end = read_or_throw(fd.get(), in.data(), in.size(), path);
    source_ended = end == 0;
  }
  [[noreturn]] void damaged() const {
    throw SystemError{"read", EBADMSG, "unpacking '" + path + "'",
                      "The file is damaged or ends early; what came before it was read."};
  }
};

PackedFileReader::PackedFileReader(const std::string& path) : state_{std::make_unique<State>()} {
  auto& state = *state_;
  state.fd = open_to_read(path, true);
  state.path = path;
  // A file may come in pieces (a pipe): look at its first four bytes.
  while (state.end < 4) {
    const auto got =
        read_or_throw(state.fd.get(), state.in.data() + state.end, state.in.size() - state.end, path);
    if (got == 0) break;
    state.end += got;
  }
  const std::string_view magic{state.in.data(), std::min<std::size_t>(state.end, 4)};
  if (magic.starts_with("\x1f\x8b")) {
    constexpr int gzip_header = 16;
    if (inflateInit2(&state.gz, MAX_WBITS + gzip_header) != Z_OK) throw std::bad_alloc{};
    state.form = State::Form::gz;
  } else if (magic == "\x28\xb5\x2f\xfd") {
    state.zst.reset(ZSTD_createDCtx());
    if (!state.zst) throw std::bad_alloc{};
    state.form = State::Form::zst;
  }
}

PackedFileReader::~PackedFileReader() = default;
PackedFileReader::PackedFileReader(PackedFileReader&&) noexcept = default;
PackedFileReader& PackedFileReader::operator=(PackedFileReader&&) noexcept = default;

std::size_t PackedFileReader::read(char* target, std::size_t bytes) {
  auto& state = *state_;
  while (true) {
    state.fill();
    const std::size_t left = state.end - state.begin;
    if (state.form == State::Form::plain) {
      const auto taken = std::min(left, bytes);
      std::memcpy(target, state.in.data() + state.begin, taken);
      state.begin += taken;
      return taken;
    }
    if (left == 0 && !state.within) return 0;
    std::size_t given = 0;
    if (state.form == State::Form::gz) {
      state.gz.next_in = reinterpret_cast<Bytef*>(state.in.data() + state.begin);
      state.gz.avail_in = static_cast<uInt>(left);
      state.gz.next_out = reinterpret_cast<Bytef*>(target);
      state.gz.avail_out = static_cast<uInt>(bytes);
      state.within = true;
      const int result = inflate(&state.gz, Z_NO_FLUSH);
      state.begin += left - state.gz.avail_in;
      given = bytes - state.gz.avail_out;
      if (result == Z_STREAM_END) {
        state.within = false;
        inflateReset(&state.gz);
      } else if (result != Z_OK && result != Z_BUF_ERROR) {
        state.damaged();
      }
    } else {
      ZSTD_inBuffer in{state.in.data() + state.begin, left, 0};
      ZSTD_outBuffer out{target, bytes, 0};
      const std::size_t result = ZSTD_decompressStream(state.zst.get(), &out, &in);
      if (ZSTD_isError(result) != 0U) state.damaged();
      state.begin += in.pos;
      given = out.pos;
      state.within = result != 0;
    }
    if (given != 0) return given;
    if (state.source_ended && state.within) state.damaged();
  }
}

bool same_content(const std::string& one, const std::string& other, const WorkLimit& limit) noexcept {
  try {
    PackedFileReader first{one};
    PackedFileReader second{other};
    std::vector<char> ours(block_bytes);
    std::vector<char> theirs(block_bytes);
    while (!limit.is_reached()) {
      const auto got = first.read(ours.data(), ours.size());
      std::size_t have = 0;
      while (have < got) {
        const auto more = second.read(theirs.data() + have, got - have);
        if (more == 0) return false;
        have += more;
      }
      if (got == 0) return second.read(theirs.data(), theirs.size()) == 0;
      if (std::memcmp(ours.data(), theirs.data(), got) != 0) return false;
    }
  } catch (...) {  // whatever cannot be read is not the same
  }
  return false;
}

}  // namespace kindred::internal
