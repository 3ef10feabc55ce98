package e2e_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	remoteasset "github.com/bazelbuild/remote-apis/build/bazel/remote/asset/v1"
	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"google.golang.org/genproto/googleapis/bytestream"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// secured is a server with callers of every kind, and what one of them has there.
type secured struct {
	*hearth

	t      *testing.T
	conn   *grpc.ClientConn
	tokens map[string]string // by caller
	// theirs is what the owner has, absent what nobody has. All names in them are of the
	// same length.
	theirs, absent subject
}

// subject is what calls and pages are about.
type subject struct {
	blob, root, action, ended, tree *repb.Digest
	// Names of a run that goes on, and of what it prints.
	operation, stdout string

	// Containers: one that is idle, and that of the run that goes on.
	runner, busy string

	upload, uri, invocation string
}

// names are all names that answers may have in them.
func (x *subject) names() []string {
	return []string{
		x.blob.GetHash(), x.root.GetHash(), x.action.GetHash(), x.ended.GetHash(), x.tree.GetHash(),
		path.Base(x.operation), path.Base(x.stdout), x.runner, x.busy, x.upload, x.uri, x.invocation,
	}
}

// absent are names of nothing, each as long as that of something.
func (x *subject) absent() subject {
	rename := func(name string) string {
		return path.Join(path.Dir(name), strings.Map(func(r rune) rune {
			const digits = "0123456789abcdef0"
			if i := strings.IndexRune(digits, r); i >= 0 {
				return rune(digits[i+1])
			}
			return r
		}, path.Base(name)))
	}
	digest := func(d *repb.Digest) *repb.Digest {
		return &repb.Digest{Hash: rename(d.GetHash()), SizeBytes: d.GetSizeBytes()}
	}
	return subject{
		blob: digest(x.blob), root: digest(x.root), action: digest(x.action), ended: digest(x.ended), tree: digest(x.tree),
		operation: rename(x.operation), stdout: rename(x.stdout),
		runner: rename(x.runner), busy: rename(x.busy),
		upload: rename(x.upload), uri: strings.ReplaceAll(x.uri, "theirs", "absent"), invocation: rename(x.invocation),
	}
}

// Callers whom nobody knows are these; the others are the owner, who may read, write and
// execute; reader, who may read in the same tenant; elsewhere, of the same tenant, who
// may do everything in another instance name; other, who may do everything in another
// tenant; and operator.
func unknownCallers() []string {
	return []string{"nobody", "wrong", "expired", "expired JWT", "forged JWT", "JWT for others", "JWT of nobody here"}
}

// issueTokens writes the file of principals. Their tokens come from there, or from an
// issuer whose keys the server fetches.
func (s *secured) issueTokens() (file string) {
	s.t.Helper()
	newKey := func() *ecdsa.PrivateKey {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			s.t.Fatal(err)
		}
		return key
	}
	key := newKey()
	keys := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k", Algorithm: "ES256", Use: "sig"}}}
		if err := json.NewEncoder(w).Encode(set); err != nil {
			s.t.Error(err)
		}
	}))
	s.t.Cleanup(keys.Close)
	signed := func(by *ecdsa.PrivateKey, subject, audience string, lasts time.Duration) string {
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: by}, (&jose.SignerOptions{}).WithHeader("kid", "k"))
		if err != nil {
			s.t.Fatal(err)
		}
		token, err := jwt.Signed(signer).Claims(jwt.Claims{
			Issuer: keys.URL, Subject: subject, Audience: jwt.Audience{audience}, Expiry: jwt.NewNumericDate(time.Now().Add(lasts)),
		}).Serialize()
		if err != nil {
			s.t.Fatal(err)
		}
		return token
	}
	s.tokens = map[string]string{
		"owner": signed(key, "owner", "hearth", time.Hour), "other": signed(key, "other", "hearth", time.Hour),
		"expired JWT": signed(key, "owner", "hearth", -time.Hour), "forged JWT": signed(newKey(), "owner", "hearth", time.Hour),
		"JWT for others": signed(key, "owner", "elsewhere", time.Hour), "JWT of nobody here": signed(key, "nobody", "hearth", time.Hour),
		"reader": "reader's", "elsewhere": "elsewhere's", "operator": "operator's", "expired": "expired one", "wrong": "guess",
	}
	hash := func(name string) string {
		sum := sha256.Sum256([]byte(s.tokens[name]))
		return "token-sha256: " + hex.EncodeToString(sum[:])
	}
	issued := "issuer: " + keys.URL + ", claims: "
	file = filepath.Join(s.t.TempDir(), "principals.yaml")
	writeFile(s.t, file, "issuers:\n- {issuer: "+keys.URL+", audience: hearth, keys: "+keys.URL+"}\nprincipals:\n"+
		"- {name: owner, tenant: a, "+issued+"{sub: owner}, roles: {'': [execute, write]}}\n"+
		"- {name: other, tenant: b, "+issued+"{sub: other}, roles: {'*': [admin]}}\n"+
		"- {name: reader, tenant: a, "+hash("reader")+", roles: {'': [read]}}\n"+
		"- {name: elsewhere, tenant: a, "+hash("elsewhere")+", roles: {elsewhere: [admin]}}\n"+
		"- {name: operator, "+hash("operator")+", roles: {'*': [admin]}}\n"+
		"- {name: expired, tenant: a, "+hash("expired")+", expires: 2020-01-01T00:00:00Z, roles: {'*': [admin]}}\n")
	return file
}

// shows are the credentials of a caller on each call.
type shows string

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (s shows) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	if s == "" {
		return nil, nil
	}
	return map[string]string{"authorization": "Bearer " + string(s)}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials.
func (shows) RequireTransportSecurity() bool { return false }

// newSecured starts a server, on which the owner has one of everything.
func newSecured(t *testing.T) *secured {
	t.Helper()
	s := &secured{t: t}
	file := s.issueTokens()
	s.hearth = startHearthWith(t, "/", recycling, "--audit-rate=0.000001", "--credentials="+file)
	conn, err := grpc.NewClient(strings.TrimPrefix(s.endpoint(t), "grpc://"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	s.conn = conn
	owner, err := grpc.NewClient(conn.Target(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithPerRPCCredentials(shows(s.tokens["owner"])))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { owner.Close() })
	s.fill(&caller{t, owner})
	return s
}

// fill makes what the owner has.
func (s *secured) fill(c *caller) {
	s.t.Helper()
	const content = "a file of the owner\n"
	x := &s.theirs
	x.root, x.blob = c.tree(map[string]string{"file": content}), c.put([]byte(content))
	x.invocation, x.uri, x.upload = "11111111-aaaa-4bbb-8ccc-0123456789ab", "https://127.0.0.1/theirs", "0a0a0a"
	b := &builder{caller: c, invocation: x.invocation, root: x.root}
	x.ended = s.digest(b.build(task{"Genrule", "//gen:ended", "mkdir out; cp file out", []string{"runner-recycling-key=own"}, []string{"out"}}))
	result, err := repb.NewActionCacheClient(c.conn).GetActionResult(s.t.Context(), &repb.GetActionResultRequest{ActionDigest: x.ended})
	if err != nil || len(result.GetOutputDirectories()) != 1 {
		s.t.Fatalf("%v, %v", result, err)
	}
	x.tree = result.GetOutputDirectories()[0].GetTreeDigest()
	_, going := b.ask(s.t.Context(), task{"TestRunner", "//long:going", "echo it prints; sleep 3600", nil, nil})
	x.action = s.digest(going)
	waitFor(s.t, "the action to print", func() bool { return s.findRunning(c) })
	s.findRunners()
	s.push(c)
	s.breakOff(c)
	s.absent = x.absent()
}

// get reads a page as JSON.
func (s *secured) get(who, page string) (code int, text []byte) {
	s.t.Helper()
	return s.request(who, http.MethodGet, page, "application/json")
}

// request makes a request to the console. What goes on for ever is not read.
func (s *secured) request(who, method, page, accept string) (code int, text []byte) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.console+page, http.NoBody)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Accept", accept)
	if token := s.tokens[who]; token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	if endless := accept == "text/event-stream" || strings.HasPrefix(page, "/operations/"); endless && resp.StatusCode == http.StatusOK {
		return resp.StatusCode, nil
	}
	if text, err = io.ReadAll(resp.Body); err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, text
}

func (s *secured) digest(text string) *repb.Digest {
	s.t.Helper()
	hash, size, _ := strings.Cut(text, "/")
	n, err := strconv.ParseInt(size, 10, 64)
	if err != nil {
		s.t.Fatal(err)
	}
	return &repb.Digest{Hash: hash, SizeBytes: n}
}

// findRunning finds the names of the run that goes on.
func (s *secured) findRunning(c *caller) bool {
	s.t.Helper()
	list, err := longrunningpb.NewOperationsClient(c.conn).ListOperations(s.t.Context(), &longrunningpb.ListOperationsRequest{})
	if err != nil {
		s.t.Fatal(err)
	}
	for _, op := range list.GetOperations() {
		says := &repb.ExecuteOperationMetadata{}
		if err := op.GetMetadata().UnmarshalTo(says); err != nil {
			s.t.Fatal(err)
		}
		if !op.GetDone() && says.GetStdoutStreamName() != "" {
			s.theirs.operation, s.theirs.stdout = op.GetName(), says.GetStdoutStreamName()
		}
	}
	return s.theirs.operation != ""
}

// findRunners finds the containers.
func (s *secured) findRunners() {
	s.t.Helper()
	var list []struct{ ID, State string }
	if _, text := s.get("operator", "/runners"); json.Unmarshal(text, &list) != nil || len(list) != 2 {
		s.t.Fatalf("%s", text)
	}
	for _, one := range list {
		if one.State == "busy" {
			s.theirs.busy = one.ID
		} else {
			s.theirs.runner = one.ID
		}
	}
}

// push makes assets of the owner.
func (s *secured) push(c *caller) {
	s.t.Helper()
	client := remoteasset.NewPushClient(c.conn)
	if _, err := client.PushBlob(s.t.Context(), &remoteasset.PushBlobRequest{Uris: []string{s.theirs.uri}, BlobDigest: s.theirs.blob}); err != nil {
		s.t.Fatal(err)
	}
	if _, err := client.PushDirectory(s.t.Context(), &remoteasset.PushDirectoryRequest{Uris: []string{s.theirs.uri}, RootDirectoryDigest: s.theirs.root}); err != nil {
		s.t.Fatal(err)
	}
}

// brokenOff is the name of an upload that was not finished, of a blob that is not there.
func brokenOff(x *subject) string {
	return "uploads/" + x.upload + "/blobs/" + strings.Repeat("5", 64) + "/100"
}

// breakOff uploads a part of a blob.
func (s *secured) breakOff(c *caller) {
	s.t.Helper()
	client := bytestream.NewByteStreamClient(c.conn)
	stream, err := client.Write(s.t.Context())
	if err == nil {
		err = stream.Send(&bytestream.WriteRequest{ResourceName: brokenOff(&s.theirs), Data: []byte("a part of it")})
	}
	if err != nil {
		s.t.Fatal(err)
	}
	waitFor(s.t, "the server to have a part of the upload", func() bool {
		says, err := client.QueryWriteStatus(s.t.Context(), &bytestream.QueryWriteStatusRequest{ResourceName: brokenOff(&s.theirs)})
		return err == nil && says.GetCommittedSize() > 0
	})
}
