// Undo by scope: on_exit runs its action when the scope ends; on_failure too, unless done() was called.
// The action must not throw. Threads: as the action.
#pragma once

#include <utility>

namespace vellum {

template <class Action>
class [[nodiscard]] ScopeAction {
 public:
  explicit ScopeAction(Action action) : action_(std::move(action)) {}
  ScopeAction(const ScopeAction&) = delete;
  ScopeAction& operator=(const ScopeAction&) = delete;
  ~ScopeAction() {
    if (armed_) action_();
  }
  // The work succeeded: nothing is left to undo.
  void done() { armed_ = false; }

 private:
  Action action_;
  bool armed_ = true;
};

template <class Action>
ScopeAction<Action> on_exit(Action action) {
  return ScopeAction<Action>(std::move(action));
}

template <class Action>
ScopeAction<Action> on_failure(Action action) {
  return ScopeAction<Action>(std::move(action));
}

}  // namespace vellum
