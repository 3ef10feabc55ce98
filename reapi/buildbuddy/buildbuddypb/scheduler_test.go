package buildbuddypb_test

import (
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/hearth-build/hearth/reapi/buildbuddy/buildbuddypb"
)

// published is what BuildBuddy's files say, written down a second time: both ends of the
// other tests have the same generated code, and would not notice a wrong number.
func published() map[string]map[string]protoreflect.FieldNumber {
	return map[string]map[string]protoreflect.FieldNumber{
		"RegisterAndStreamWorkRequest": {
			"register_executor_request": 1, "enqueue_task_reservation_response": 2, "shutting_down_request": 3, "ask_for_more_work_request": 4,
		},
		"RegisterAndStreamWorkResponse": {
			"enqueue_task_reservation_request": 3, "ask_for_more_work_response": 4, "cancel_task_reservation_request": 5,
		},
		"RegisterExecutorRequest":        {"node": 1},
		"ShuttingDownRequest":            {"task_id": 1},
		"AskForMoreWorkRequest":          {},
		"AskForMoreWorkResponse":         {"delay": 1},
		"EnqueueTaskReservationRequest":  {"task_id": 1, "task_size": 2, "scheduling_metadata": 3, "delay": 5, "jwt": 6, "trace_metadata": 100},
		"EnqueueTaskReservationResponse": {"task_id": 1},
		"CancelTaskReservationRequest":   {"task_id": 1},
		"SchedulingMetadata":             {"task_group_id": 6, "priority": 11},
		"TaskSize":                       {"estimated_memory_bytes": 1, "estimated_milli_cpu": 2, "custom_resources": 4},
		"CustomResource":                 {"name": 1, "value": 2},
		"TraceMetadata":                  {"entries": 1},
		"ExecutionNode": {
			"host": 1, "port": 2, "assignable_memory_bytes": 3, "assignable_milli_cpu": 4, "os_family": 5, "arch": 6, "pool": 7, "version": 8,
			"executor_id": 9, "executor_host_id": 10, "assignable_custom_resources": 11, "supported_isolation_types": 12,
			"current_queue_length": 13, "active_action_count": 14, "supports_proactive_cancellation": 18,
		},
		"LeaseTaskRequest": {
			"task_id": 1, "finalize": 2, "executor_id": 4, "re_enqueue": 5, "re_enqueue_reason": 6, "supports_reconnect": 7,
			"reconnect_token": 8, "executor_hostname": 9,
		},
		"LeaseTaskResponse": {
			"serialized_task": 1, "lease_duration_seconds": 2, "closed_cleanly": 3, "reconnect_token": 4, "lease_id": 5, "supports_reconnect": 6,
		},
		"ReEnqueueTaskRequest":  {"task_id": 1, "reason": 2, "lease_id": 3},
		"ReEnqueueTaskResponse": {},
		"ExecutionTask": {
			"execute_request": 1, "jwt": 2, "invocation_id": 3, "action": 4, "command": 5, "execution_id": 6, "queued_timestamp": 7,
			"platform_overrides": 8, "request_metadata": 9,
		},
	}
}

// TestNumbersAreThePublishedOnes: a message means the same to an app.
func TestNumbersAreThePublishedOnes(t *testing.T) {
	file := buildbuddypb.File_reapi_buildbuddy_buildbuddypb_scheduler_proto
	want := published()
	messages := file.Messages()
	for i := range messages.Len() {
		m := messages.Get(i)
		numbers, ok := want[string(m.Name())]
		if !ok || m.Fields().Len() != len(numbers) {
			t.Errorf("%s has %d fields, and here it has %d", m.FullName(), m.Fields().Len(), len(numbers))
		}
		for j := range m.Fields().Len() {
			if f := m.Fields().Get(j); f.Number() != numbers[string(f.Name())] {
				t.Errorf("%s is %d, published as %d", f.FullName(), f.Number(), numbers[string(f.Name())])
			}
		}
	}
	if messages.Len() != len(want) {
		t.Errorf("there are %d messages, and here %d", messages.Len(), len(want))
	}
	if name := file.Services().Get(0).FullName(); name != "scheduler.Scheduler" {
		t.Errorf("the service is %s", name)
	}
}
