// bb_storage of a small cluster: blobs and results in files of fixed size, for whoever
// has a certificate. Results are given out only while their blobs are there. It passes
// on to the scheduler what clients want executed, so that this is all they need.
local GiB = 1024 * 1024 * 1024;
local tls = '/etc/hearth-cluster/tls/';
local authority = importstr '/etc/hearth-cluster/tls/ca.pem';
local own = { files: { certificatePath: tls + 'storage.pem', privateKeyPath: tls + 'storage-key.pem', refreshInterval: '60s' } };
local data = '/var/lib/hearth-cluster/';

// files is a store of so many bytes in a directory of that name. Old blobs go when it is full.
local files(name, bytes, entries, newBlocks) = {
  'local': {
    keyLocationMapOnBlockDevice: { file: { path: data + name + '/map', sizeBytes: entries * 66 } },
    keyLocationMapMaximumGetAttempts: 16,
    keyLocationMapMaximumPutAttempts: 64,
    oldBlocks: 8,
    currentBlocks: 24,
    newBlocks: newBlocks,
    blocksOnBlockDevice: { source: { file: { path: data + name + '/blocks', sizeBytes: bytes } }, spareBlocks: 3 },
    persistent: { stateDirectoryPath: data + name + '-state', minimumEpochInterval: '300s' },
  },
};

{
  grpcServers: [{
    listenAddresses: [':8980'],
    authenticationPolicy: {
      tlsClientCertificate: {
        clientCertificateAuthorities: authority,
        validationJmespathExpression: { expression: '`true`' },
        metadataExtractionJmespathExpression: { expression: '`{}`' },
      },
    },
    tls: { serverKeyPair: own },
    maximumReceivedMessageSizeBytes: 16 * 1024 * 1024,
  }],
  schedulers: {
    '': { endpoint: { address: 'localhost:8982', tls: { serverCertificateAuthorities: authority, clientKeyPair: own } } },
  },
  executeAuthorizer: { allow: {} },
  maximumMessageSizeBytes: 16 * 1024 * 1024,
  supportedCompressors: ['ZSTD'],
  contentAddressableStorage: {
    backend: files('cas', 100 * GiB, 20 * 1000 * 1000, 3),
    getAuthorizer: { allow: {} },
    putAuthorizer: { allow: {} },
    findMissingAuthorizer: { allow: {} },
  },
  actionCache: {
    backend: {
      completenessChecking: {
        backend: files('ac', GiB, 2 * 1000 * 1000, 1), // 1, since results change
        maximumTotalTreeSizeBytes: 64 * 1024 * 1024,
      },
    },
    getAuthorizer: { allow: {} },
    putAuthorizer: { allow: {} },
  },
}
