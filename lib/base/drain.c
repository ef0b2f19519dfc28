/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/base/drain.h"

#include <glib.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <unistd.h>

static atomic_bool requested;
static atomic_bool reload;
static int event_fd = -1;
static sigset_t handled;

void drover_drain_request(void)
{
    atomic_store(&requested, true);
    if (event_fd >= 0) {
        uint64_t one = 1;
        ssize_t n = write(event_fd, &one, sizeof one);
        (void)n; /* never read, so it can only fail when it is signalled already */
    }
}

static void *wait_for_signals(void *unused)
{
    (void)unused;
    for (;;) {
        int signal_number = 0;
        if (sigwait(&handled, &signal_number) != 0)
            continue;
        if (signal_number == SIGHUP)
            atomic_store(&reload, true);
        else if (atomic_load(&requested))
            _exit(128 + signal_number);
        else
            drover_drain_request();
    }
    return NULL;
}

void drover_drain_install(void)
{
    g_assert(event_fd < 0);
    event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    g_assert(event_fd >= 0);
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&handled);
    sigaddset(&handled, SIGTERM);
    sigaddset(&handled, SIGINT);
    sigaddset(&handled, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &handled, NULL);
    pthread_t thread;
    int rc = pthread_create(&thread, NULL, wait_for_signals, NULL);
    g_assert(rc == 0);
    pthread_detach(thread);
}

bool drover_drain_requested(void)
{
    return atomic_load(&requested);
}

bool drover_reload_requested(void)
{
    return atomic_exchange(&reload, false);
}

int drover_drain_fd(void)
{
    return event_fd;
}

bool drover_drain_wait(unsigned ms)
{
    struct pollfd pfd = {.fd = event_fd, .events = POLLIN};
    if (!drover_drain_requested())
        poll(&pfd, event_fd >= 0 ? 1 : 0, (int)ms);
    return drover_drain_requested();
}

void drover_drain_child_setup(void *unused)
{
    (void)unused;
    sigset_t none;
    sigemptyset(&none);
    pthread_sigmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
}
