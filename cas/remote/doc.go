// Package remote is a Store and an action cache that live on another machine,
// behind any server of the Remote Execution API.
//
// It owns the client's side of the wire: what the server announces, batches of
// small blobs and streams of large ones, compression, deadlines, retries, going
// on with streams that broke off, and the one table from status codes to errors.
//
// It never keeps a blob, and does not check what it reads: whoever keeps or
// trusts the bytes reads them through a cas.Content, as cas/tiered does. It never
// returns a gRPC status, which the server would take for its own.
//
// It uses the generated clients and not the client of remote-apis-sdks, because
// that one computes digests with a function that is global to the process (one
// server here serves eight at once), returns blobs as byte slices or files where
// a Store must stream, starts over where a stream can go on, and brings a caller's
// cancellation to all that share its batch.
//
// Invariants:
//   - What is sent is whole only if its hash was right: finish_write is sent after
//     the content was read to its end, and not before.
//   - A call is made again only after an error that says that it may succeed then,
//     not before the server wants it, and never once its caller is gone.
//   - A caller that gives up fails nobody who shares a batch with it.
//   - Memory is bounded per call, whatever the size of the blob.
package remote
