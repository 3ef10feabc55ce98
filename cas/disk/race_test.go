//go:build race

package disk

// slowdown is about how much longer the race detector makes work take.
const slowdown = 10
