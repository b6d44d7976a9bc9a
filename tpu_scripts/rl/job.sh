# shellcheck shell=bash
# One job of a JobSet: rl_yaml JOB COUNT PODS NODES RESOURCES, and the commands FETCH and WORDS, quoted for YAML.
# A pod that is not the learner's may die and is started again alone, and then the others of its sampler; a learner that loses a host starts anew, and all with it.
# The run is at its end when the board is, which writes the results.
rl_yaml() {
  local tries=1000 notes={}
  [[ $1 != learner ]] || tries=0
  if [[ $1 == learner ]] || { [[ $1 == samplers ]] && (($3 > 1)); }; then # all hosts of one slice
    notes="{alpha.jobset.sigs.k8s.io/exclusive-topology: cloud.google.com/gke-nodepool}"
  fi
  cat <<END
  - name: $1
    replicas: $2
    template:
      metadata: {annotations: $notes}
      spec:
        parallelism: $3
        completions: $3
        backoffLimit: $tries
        template:
          spec:
            restartPolicy: Never
            terminationGracePeriodSeconds: 120
            nodeSelector: $NODES
            volumes: [{name: code, emptyDir: {}}]
            initContainers:
            - name: fetch
              image: google/cloud-sdk:slim
              command: [bash, -c, '$FETCH']
              volumeMounts: [{name: code, mountPath: /opt/cwm_jax}]
            containers:
            - name: work
              image: $IMAGE
              command: [bash, -c, '$WORDS']
              resources: {limits: $5}
              volumeMounts: [{name: code, mountPath: /opt/cwm_jax}]
END
}
