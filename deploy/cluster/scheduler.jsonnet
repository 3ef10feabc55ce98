// bb_scheduler of a small cluster: the storage comes to 8982, on behalf of clients, and
// workers come to 8983, both with certificates. An action goes to the workers that have the same properties.
local tls = '/etc/hearth-cluster/tls/';
local authority = importstr '/etc/hearth-cluster/tls/ca.pem';
local own = { files: { certificatePath: tls + 'scheduler.pem', privateKeyPath: tls + 'scheduler-key.pem', refreshInterval: '60s' } };

local server(address) = {
  listenAddresses: [address],
  authenticationPolicy: {
    tlsClientCertificate: {
      clientCertificateAuthorities: authority,
      validationJmespathExpression: { expression: '`true`' },
      metadataExtractionJmespathExpression: { expression: '`{}`' },
    },
  },
  tls: { serverKeyPair: own },
  maximumReceivedMessageSizeBytes: 16 * 1024 * 1024,
};

{
  clientGrpcServers: [server(':8982')],
  workerGrpcServers: [server(':8983')],
  contentAddressableStorage: {
    grpc: {
      address: 'localhost:8980',
      tls: {
        serverCertificateAuthorities: authority,
        clientKeyPair: own,
      },
    },
  },
  maximumMessageSizeBytes: 16 * 1024 * 1024,
  executeAuthorizer: { allow: {} },
  synchronizeAuthorizer: { allow: {} },
  modifyDrainsAuthorizer: { deny: {} },
  killOperationsAuthorizer: { deny: {} },
  actionRouter: {
    simple: {
      platformKeyExtractor: { actionAndCommand: {} },
      invocationKeyExtractors: [{ correlatedInvocationsId: {} }, { toolInvocationId: {} }],
      initialSizeClassAnalyzer: { defaultExecutionTimeout: '1800s', maximumExecutionTimeout: '7200s' },
    },
  },
  platformQueueWithNoWorkersTimeout: '900s',
}
