#include "kindred/logger.hpp"

#include <atomic>
#include <utility>

#include "front/front.hpp"
#include "front/logger_access.hpp"

namespace kindred {
namespace internal {

namespace {
constinit std::atomic<std::uint64_t> last_binding{0};
}

Binding::Binding(std::string logger_name, std::vector<Field> logger_fields)
    : serial{last_binding.fetch_add(1, std::memory_order_relaxed) + 1},
      name{std::move(logger_name)},
      fields{std::move(logger_fields)} {}

Logger LoggerAccess::bound(LogFront& front, std::shared_ptr<ContextLife> life) {
  Logger logger;
  logger.front_ = &front;
  logger.life_ = std::move(life);
  return logger;
}

}  // namespace internal

Logger::Logger(std::string_view name) {
  if (!name.empty())
    binding_ = std::make_shared<const internal::Binding>(std::string{name}, std::vector<Field>{});
}

Logger Logger::with(std::initializer_list<LogField> fields) const {
  std::vector<Field> all;
  if (binding_ != nullptr) all = binding_->fields;
  for (const LogField& item : fields) {
    bool known = false;
    for (Field& field : all) {
      if (field.key != item.field.key) continue;
      field.value = item.field.value;
      known = true;
    }
    if (!known) all.push_back(item.field);
  }
  Logger result = *this;
  result.binding_ = std::make_shared<const internal::Binding>(std::string{name()}, std::move(all));
  return result;
}

Logger Logger::named(std::string_view name) const {
  Logger result = *this;
  result.binding_ = std::make_shared<const internal::Binding>(
      std::string{name}, binding_ != nullptr ? binding_->fields : std::vector<Field>{});
  return result;
}

std::string_view Logger::name() const noexcept {
  return binding_ != nullptr ? std::string_view{binding_->name} : std::string_view{};
}

bool Logger::bound_enabled(LevelCode level) const noexcept {
  if (front_->inherited())
    return true;  // so that the call goes on to `bound_target`, which says what is wrong
  internal::LogFront* const front = front_->belongs_to(life_.get()) ? front_ : nullptr;
  if (binding_ != nullptr && !binding_->name.empty())
    return internal::binding_enabled(front, *binding_, level.base());
  if (front == nullptr) return internal::stderr_enabled(level.base());
  return internal::level_passes(front->control().levels.load(std::memory_order_relaxed), level.base());
}

internal::LogTarget Logger::bound_target() const {
  if (front_->inherited()) internal::throw_foreign_handle("Logger", life_->id, internal::served_context());
  return {front_->belongs_to(life_.get()) ? front_ : nullptr, binding_.get()};
}

}  // namespace kindred
