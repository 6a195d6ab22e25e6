#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>

#include "kindred/internal/codec_traits.hpp"

namespace kindred {

/// Which processes may write to a `SharedArray`.
enum class ArrayAccess : unsigned char {
  maker_writes,  ///< the process that made it (the default); everybody else's mapping is read-only, by the
                 ///< kernel
  all_write      ///< every process that has it; which writes what is for the program to settle (a `Mutex`,
                 ///< disjoint parts)
};

namespace internal {

struct ContextLife;
class ArrayBlock;

[[nodiscard]] std::shared_ptr<ArrayBlock> make_array_block(const std::shared_ptr<ContextLife>& life,
                                                           std::size_t size, std::size_t bytes_each,
                                                           ArrayAccess access);
/// The same for the context that this process works for. Errors: `UsageError` in a process that is no worker.
[[nodiscard]] std::shared_ptr<ArrayBlock> make_array_block_here(std::size_t size, std::size_t bytes_each,
                                                                ArrayAccess access);
[[nodiscard]] std::byte* array_bytes(const ArrayBlock& block) noexcept;
[[nodiscard]] bool array_writable(const ArrayBlock* block) noexcept;
[[noreturn]] void throw_array_not_writable(const ArrayBlock& block);
[[noreturn]] void throw_array_index(std::size_t index, std::size_t size);
void encode_array(Encoder& encoder, const std::shared_ptr<ArrayBlock>& block, std::size_t size,
                  std::size_t bytes_each);
[[nodiscard]] std::shared_ptr<ArrayBlock> decode_array(Decoder& decoder, std::size_t& size,
                                                       std::size_t bytes_each);
/// Does this worker keep arrays mapped that no handle uses, in case the next call brings them again? A load.
[[nodiscard]] bool keeps_idle_arrays() noexcept;
/// Lets go of them. An array is freed when its last holder lets go, and a worker that stays idle is none.
void release_idle_arrays() noexcept;
class SharedObjectRegistry;

}  // namespace internal

/// An array in shared memory that passes between the parent and the workers of one executor without being
/// copied, in either direction and at any size: as an argument, and as a result. Made by
/// `executor.make_array<T>(n)` in the parent and `make_shared_array<T>(n)` in a worker, with all bytes zero.
///
/// It is read and written in place, as a `std::vector` of fixed size: `array[i] = x`, `for (T& each :
/// array)`; a const handle only reads. What one process writes while others read is seen by them, sooner or
/// later: fill it first, then pass it, or settle it with a `Mutex`.
///
/// The maker writes. For all others it is sealed by the kernel (`F_SEAL_FUTURE_WRITE`) when it first crosses,
/// unless it was made with `ArrayAccess::all_write`: `mutable_span()` refuses there, and a process that
/// writes all the same, through an index or an iterator, is ended by SIGSEGV.
///
/// A handle is a share in the array, as `std::shared_ptr` is. The memory is freed when the last one goes, in
/// whatever process, and a process's death lets go of all of its. A handle may be read after its pool has
/// ended, but crosses only to workers of the executor that it belongs to.
///
/// Threads: any, as for a plain array. Fork: crosses as an argument or a result; readable in a fork of your
/// own.
template <class T>
class SharedArray {
  static_assert(
      std::is_trivially_copyable_v<T> && !std::is_const_v<T> && !std::is_volatile_v<T>,
      "kindred::SharedArray<T>: T must be trivially copyable, because its bytes are shared as they are. Pass a std::vector<T>, "
      "which is copied, or an array of a plain struct.");
  static_assert(
      !std::is_pointer_v<T>,
      "kindred::SharedArray<T>: a pointer means nothing in another process. Share what it points to, or an index.");

 public:
  using value_type = T;
  using iterator = T*;
  using const_iterator = const T*;

  SharedArray() noexcept = default;  ///< empty
  SharedArray(const SharedArray&) = default;
  SharedArray& operator=(const SharedArray&) = default;
  SharedArray(SharedArray&& other) noexcept
      : block_{std::move(other.block_)},
        data_{std::exchange(other.data_, nullptr)},
        size_{std::exchange(other.size_, 0)} {}
  SharedArray& operator=(SharedArray&& other) noexcept {
    block_ = std::move(other.block_);
    data_ = std::exchange(other.data_, nullptr);
    size_ = std::exchange(other.size_, 0);
    return *this;
  }
  ~SharedArray() = default;

  [[nodiscard]] std::span<const T> span() const noexcept { return {data_, size_}; }
  [[nodiscard]] std::span<T> span() noexcept { return {data_, size_}; }
  [[nodiscard]] const T* data() const noexcept { return data_; }
  [[nodiscard]] T* data() noexcept { return data_; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] std::size_t size_bytes() const noexcept { return size_ * sizeof(T); }
  [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
  [[nodiscard]] const T* begin() const noexcept { return data_; }
  [[nodiscard]] const T* end() const noexcept { return data_ + size_; }
  [[nodiscard]] T* begin() noexcept { return data_; }
  [[nodiscard]] T* end() noexcept { return data_ + size_; }
  [[nodiscard]] const T& operator[](std::size_t index) const noexcept { return data_[index]; }
  [[nodiscard]] T& operator[](std::size_t index) noexcept { return data_[index]; }
  [[nodiscard]] const T& front() const noexcept { return data_[0]; }
  [[nodiscard]] T& front() noexcept { return data_[0]; }
  [[nodiscard]] const T& back() const noexcept { return data_[size_ - 1]; }
  [[nodiscard]] T& back() noexcept { return data_[size_ - 1]; }
  /// Errors: `UsageError` where there is no such element.
  [[nodiscard]] const T& at(std::size_t index) const {
    if (index >= size_) internal::throw_array_index(index, size_);
    return data_[index];
  }
  [[nodiscard]] T& at(std::size_t index) {
    if (index >= size_) internal::throw_array_index(index, size_);
    return data_[index];
  }

  /// May this process write to it?
  [[nodiscard]] bool writable() const noexcept { return internal::array_writable(block_.get()); }
  /// The same memory, after a check whether this process may write. Also of a const handle. Errors:
  /// `UsageError` where this process may not write (`ArrayAccess::maker_writes`).
  [[nodiscard]] std::span<T> mutable_span() const {
    if (!writable() && block_ != nullptr) internal::throw_array_not_writable(*block_);
    return {data_, size_};
  }

  /// Are both handles of the same array?
  friend bool operator==(const SharedArray& left, const SharedArray& right) noexcept {
    return left.data_ == right.data_ && left.size_ == right.size_;
  }

 private:
  friend class internal::SharedObjectRegistry;
  template <class>
  friend struct internal::CodecTraits;
  template <class U>
  friend SharedArray<U> make_shared_array(std::size_t size, ArrayAccess access);

  SharedArray(std::shared_ptr<internal::ArrayBlock> block, std::size_t size) noexcept
      : block_{std::move(block)},
        data_{block_ == nullptr ? nullptr : reinterpret_cast<T*>(internal::array_bytes(*block_))},
        size_{size} {}

  std::shared_ptr<internal::ArrayBlock> block_;
  T* data_ = nullptr;
  std::size_t size_ = 0;
};

/// Makes an array in a worker, for the executor that the worker belongs to; return it from a task, and the
/// parent has it. (In the parent: `executor.make_array<T>(size)`.) All of its memory is allocated now.
/// Errors: `SystemError` where memory is short, `UsageError` elsewhere than in a worker.
template <class T>
[[nodiscard]] SharedArray<T> make_shared_array(std::size_t size,
                                               ArrayAccess access = ArrayAccess::maker_writes) {
  return SharedArray<T>{internal::make_array_block_here(size, sizeof(T), access), size};
}

template <class T>
struct internal::CodecTraits<SharedArray<T>> {
  static constexpr bool crosses = true;
  static void encode(Encoder& encoder, const SharedArray<T>& array) {
    encode_array(encoder, array.block_, array.size_, sizeof(T));
  }
  [[nodiscard]] static SharedArray<T> decode(Decoder& decoder) {
    std::size_t size = 0;
    auto block = decode_array(decoder, size, sizeof(T));
    return SharedArray<T>{std::move(block), size};
  }
};

}  // namespace kindred
