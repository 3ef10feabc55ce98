package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"

	"github.com/docker/go-units"

	"github.com/hearth-build/hearth/cas/disk"
)

// storeCheck is where a check of the store tells how it goes.
type storeCheck struct {
	logger   *slog.Logger
	progress *progress
}

// checkStore reads all that is in the store.
func (c *doctorCmd) checkStore(ctx context.Context, f *findings, check storeCheck) {
	dir := filepath.Join(c.DataDir, "store")
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		f.show("store", false, "there is none in "+c.DataDir, "name the server's data directory with --data-dir")
		return
	}
	report, err := disk.Verify(ctx, disk.Options{
		Dir: dir, MaxBytes: math.MaxInt64, // nothing is evicted
		OnCheck: func(done, all int) { check.progress.show("checked", done, all) }, Logger: check.logger,
	})
	check.progress.end()
	for _, d := range report.Dropped {
		fmt.Fprintf(f.out, "dropped  %v, in namespace %s\n", d, d.Namespace)
	}
	read := fmt.Sprintf("%d blobs and results, %s in %s", report.Checked, units.BytesSize(float64(report.Bytes)), dir)
	switch {
	case err != nil && report.Checked == 0 && len(report.Dropped) == 0:
		f.show("store", false, err.Error(), "")
	case err != nil:
		f.show("store", false, fmt.Sprintf("%s were checked, %d of them damaged and dropped, then: %v", read, len(report.Dropped), err), "run it again: what it dropped is settled")
	case len(report.Dropped) > 0:
		f.show("store", false, fmt.Sprintf("of %s, %d were damaged", read, len(report.Dropped)),
			"they are dropped, and come back when they are uploaded or built again; if there are more the next time, look at the disk and the memory of this machine")
	default:
		f.show("store", true, read+", all whole", "")
	}
}
