//go:build !race

package execserver_test

const raceBuild = false
