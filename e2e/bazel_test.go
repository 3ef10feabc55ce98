package e2e_test

import "testing"

// TestBazel4OnDebian12 builds with the host's Bazel and the host's compiler. REAPI K1
func TestBazel4OnDebian12(t *testing.T) {
	runAll(t, newBazel4(t, startHearth(t, "/")))
}

// TestBazel7OnDebianUnstable builds with a newer distribution's Bazel and
// compiler; hearth, on this host, shows that distribution's root to the actions.
func TestBazel7OnDebianUnstable(t *testing.T) {
	runAll(t, newBazel7(t, startHearth(t, sidRoot(t))))
}

// runAll runs every scenario with one Bazel. Their order matters: the second
// build finds what the first one left in the cache.
func runAll(t *testing.T, c *client) {
	scenarios := []struct {
		name string
		run  func(*testing.T, *client)
	}{
		{"BuildsEverythingRemotely", buildsEverythingRemotely},
		{"ActionSeesNothingOfTheServer", actionSeesNothingOfTheServer},
		{"DownloadsNothingWhenTold", downloadsNothingWhenTold},
		{"WritesSymlinksToNowhere", writesSymlinksToNowhere},
		{"EndsDaemonsWithTheirAction", endsDaemonsWithTheirAction},
		{"RunsTests", runsTests},
		{"KeepsLogsOfShards", keepsLogsOfShards},
		{"KeepsUndeclaredOutputs", keepsUndeclaredOutputs},
		{"RunsTestsRepeatedly", runsTestsRepeatedly},
		{"ShowsTheFailedTest", showsTheFailedTest},
		{"StopsTheSlowTest", stopsTheSlowTest},
		{"RunsTheFlakyTestAgain", runsTheFlakyTestAgain},
		{"SaysThatThereAreNoTests", saysThatThereAreNoTests},
		{"ShowsTheFailedAction", showsTheFailedAction},
		{"ShowsTheMissingOutput", showsTheMissingOutput},
		{"ExplainsTheMissingProgram", explainsTheMissingProgram},
		{"ExplainsTheUnknownIsolation", explainsTheUnknownIsolation},
		{"ExplainsTheMissingImage", explainsTheMissingImage},
	}
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) { s.run(t, c) })
	}
}
