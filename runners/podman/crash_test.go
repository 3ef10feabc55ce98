package podman_test

func crashHelper() {}
