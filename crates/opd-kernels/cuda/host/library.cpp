// The kernels as a library for the host, and the scheduler of their threads.
#include "device.h"

#include <csetjmp>
#include <mutex>
#include <ucontext.h>
#include <vector>

namespace host {
dim3_host thread_index, block_index, block_size, grid_size;
Kernel *kernels = nullptr;
}  // namespace host

namespace {
const size_t STACK = 64 << 10;
const unsigned WARP_SIZE = 32;

enum State { READY, AT_BARRIER, AT_EXCHANGE, DONE };

struct Fiber {
  ucontext_t context;
  jmp_buf place;
  std::vector<unsigned char> stack;
  bool started;
  State state;
  uint64_t given;
  unsigned from;
};

struct Block {
  std::vector<Fiber> fibers;
  std::vector<unsigned char> memory;
  jmp_buf scheduler;
  unsigned current;
  void (*run)(void **);
  void **arguments;
  const char *name;
};

Block block;

[[noreturn]] void fail(const char *what) {
  fprintf(stderr, "kernel %s, block (%u, %u), thread %u: %s\n", block.name, host::block_index.x,
          host::block_index.y, block.current, what);
  abort();
}

void leave(State state) {
  Fiber &fiber = block.fibers[block.current];
  fiber.state = state;
  if (_setjmp(fiber.place) == 0) _longjmp(block.scheduler, 1);
}

void enter() {
  block.run(block.arguments);
  block.fibers[block.current].state = DONE;
  _longjmp(block.scheduler, 1);
}

// Runs a fiber until it waits or ends.
void resume(unsigned index) {
  Fiber &fiber = block.fibers[index];
  block.current = index;
  host::thread_index = {index, 0, 0};
  if (_setjmp(block.scheduler) != 0) return;
  if (fiber.started) _longjmp(fiber.place, 1);
  fiber.started = true;
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = fiber.stack.data();
  fiber.context.uc_stack.ss_size = fiber.stack.size();
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, enter, 0);
  setcontext(&fiber.context);
}

// Lets a warp go on from an exchange that all its lanes have reached.
bool finish_exchange(unsigned first, unsigned last) {
  for (unsigned i = first; i < last; i++)
    if (block.fibers[i].state != AT_EXCHANGE) return false;
  uint64_t given[WARP_SIZE];
  for (unsigned i = first; i < last; i++) given[i - first] = block.fibers[i].given;
  for (unsigned i = first; i < last; i++) {
    Fiber &fiber = block.fibers[i];
    fiber.given = given[fiber.from % WARP_SIZE];
    fiber.state = READY;
  }
  return true;
}

void run_block(unsigned threads, bool backwards) {
  for (Fiber &fiber : block.fibers) {
    fiber.started = false;
    fiber.state = READY;
  }
  for (;;) {
    bool moved = false;
    unsigned warps = threads / WARP_SIZE;
    for (unsigned w = 0; w < warps; w++) {
      unsigned first = (backwards ? warps - 1 - w : w) * WARP_SIZE;
      do {
        for (unsigned i = 0; i < WARP_SIZE; i++) {
          unsigned index = first + (backwards ? WARP_SIZE - 1 - i : i);
          if (block.fibers[index].state == READY) {
            resume(index);
            moved = true;
          }
        }
      } while (finish_exchange(first, first + WARP_SIZE));
    }
    unsigned done = 0, waiting = 0;
    for (unsigned i = 0; i < threads; i++) {
      done += block.fibers[i].state == DONE;
      waiting += block.fibers[i].state == AT_BARRIER;
    }
    if (done == threads) return;
    if (waiting == threads) {
      for (Fiber &fiber : block.fibers) fiber.state = READY;
    } else if (!moved) {
      fail(waiting ? "part of the block does not reach a barrier"
                   : "part of a warp does not reach an exchange");
    }
  }
}
}  // namespace

namespace host {
unsigned lane() { return block.current % WARP_SIZE; }
void *block_memory() { return block.memory.data(); }
void block_barrier() { leave(AT_BARRIER); }
uint64_t exchange(uint64_t value, unsigned from) {
  unsigned index = block.current;
  block.fibers[index].given = value;
  block.fibers[index].from = from;
  leave(AT_EXCHANGE);
  return block.fibers[index].given;
}
}  // namespace host

#include "kernels.h"

// Runs a kernel; `order` 1 lets threads take turns from the last to the first. 0 if there is none of
// that name or the sizes are not allowed.
extern "C" __attribute__((visibility("default"))) int opd_launch(const char *name, unsigned blocks_x, unsigned blocks_y, unsigned threads,
                          unsigned memory, void **arguments, int order) {
  static std::mutex one;
  std::lock_guard<std::mutex> guard(one);
  host::Kernel *kernel = host::kernels;
  while (kernel && strcmp(kernel->name, name) != 0) kernel = kernel->next;
  bool fits = threads > 0 && threads <= 1024 && threads % WARP_SIZE == 0 && memory <= 99 << 10;
  if (!kernel || !fits) return 0;
  block.name = kernel->name;
  block.run = kernel->run;
  block.arguments = arguments;
  while (block.fibers.size() < threads) {
    block.fibers.emplace_back();
    block.fibers.back().stack.resize(STACK);
  }
  block.fibers.resize(threads);
  host::block_size = {threads, 1, 1};
  host::grid_size = {blocks_x, blocks_y, 1};
  for (unsigned y = 0; y < blocks_y; y++) {
    for (unsigned x = 0; x < blocks_x; x++) {
      host::block_index = {x, y, 0};
      // What a kernel reads before it writes it is NaN.
      block.memory.assign(memory + 16, 0xff);
      run_block(threads, order == 1);
    }
  }
  return 1;
}
