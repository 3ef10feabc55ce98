package execserver

import (
	"runtime"
	"sync"
)

// spareThreads is how many the server has after many commands without this.
const spareThreads = 12

// makeThreads has the runtime make threads ahead, which it keeps for later: it
// ends the program when it needs one and cannot have it, as while a command uses
// up the processes that the container may have.
func makeThreads(n int) {
	var held, done sync.WaitGroup
	held.Add(n)
	for range n {
		done.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			held.Done()
			held.Wait() // each holds a thread of its own until all do
		})
	}
	done.Wait()
}
