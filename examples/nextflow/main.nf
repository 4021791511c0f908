// Screens slides, one task each, and gathers their rows in one table:
//
//     nextflow run main.nf --slides 'slides/*.svs' --calibration calibration.safetensors --out screened
//
// Each machine needs `pip install "torchmetrics-rl2[cli,slides]"`, by a container, an environment module or conda.

nextflow.enable.dsl = 2

params.slides = 'slides/*.svs'
params.weights = 'lung-colon'
params.calibration = null
params.out = 'screened'

// Downloads the weights once, where there is a network; those that come with the package are there already.
process WEIGHTS {
    label 'process_single'

    input:
    val name

    output:
    path 'weights'

    script:
    """
    mkdir weights
    TORCHMETRICS_RL2_HOME=weights rl2 weights fetch '${name}'
    """
}

process SCREEN {
    tag "${slide.name}"
    label 'process_medium'
    publishDir params.out, mode: 'copy', pattern: 'screened/*', saveAs: { file -> file.tokenize('/').last() }
    errorStrategy { task.attempt < 3 ? 'retry' : 'ignore' }

    input:
    path slide
    val name
    path weights
    path calibration

    output:
    path "screened/${slide.baseName}", emit: folder
    path 'slides.csv', emit: row

    script:
    def good = calibration ? "--calibration ${calibration}" : ''
    """
    export TORCHMETRICS_RL2_HOME=\$PWD/${weights} TORCHMETRICS_RL2_OFFLINE=1
    rl2 screen '${slide}' -o screened --weights '${name}' ${good} --workers ${task.cpus}
    mv screened/slides.csv slides.csv
    """
}

workflow {
    WEIGHTS(params.weights)
    good = params.calibration ? file(params.calibration, checkIfExists: true) : []
    SCREEN(Channel.fromPath(params.slides, checkIfExists: true), params.weights, WEIGHTS.out, good)
    SCREEN.out.row.collectFile(name: 'slides.csv', keepHeader: true, storeDir: params.out)
}
