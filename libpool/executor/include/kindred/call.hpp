#pragma once

#include <memory>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#include "kindred/internal/task_entry.hpp"

namespace kindred {

/// A function with its arguments, to be called in a worker: `initializer`, `finalizer`, `preload`. Empty, or
/// made like this:
///
///     .initializer = {load_model, "model.bin"}
///
/// What may be given is what `submit` takes. The arguments are copied here, and encoded by the executor.
/// Value; any thread.
class Call {
 public:
  Call() = default;
  template <class F, class... Args>
    requires(!std::is_same_v<std::remove_cvref_t<F>, Call> &&
             !std::is_same_v<std::remove_cvref_t<F>, std::nullptr_t>)
  Call(F&& function, Args&&... args)  // NOLINT(google-explicit-constructor): so that braces make one
      : model_{std::make_shared<const Holding<std::decay_t<F>, std::decay_t<Args>...>>(
            std::forward<F>(function), std::forward<Args>(args)...)} {}

  explicit operator bool() const noexcept { return model_ != nullptr; }

  /// For the executor: what to run, and its arguments.
  struct Model {
    virtual ~Model() = default;
    virtual const internal::EntryInfo* entry() const noexcept = 0;
    virtual const void* function() const noexcept = 0;
    virtual void encode(internal::Encoder& encoder) const = 0;
  };
  [[nodiscard]] const Model* model() const noexcept { return model_.get(); }

 private:
  template <class F, class... Args>
  struct Holding final : Model {
    template <class G, class... Given>
    explicit Holding(G&& fn, Given&&... given)
        : function_{std::forward<G>(fn)}, arguments_{std::forward<Given>(given)...} {}
    const internal::EntryInfo* entry() const noexcept override { return &internal::entry_info<F, Args...>; }
    const void* function() const noexcept override { return internal::function_address(function_); }
    void encode(internal::Encoder& encoder) const override {
      std::apply([&](const Args&... args) { internal::encode_call<F>(encoder, function_, args...); },
                 arguments_);
    }
    F function_;
    std::tuple<Args...> arguments_;
  };

  std::shared_ptr<const Model> model_;
};

}  // namespace kindred
