// Screens slides, one task each, and gathers their rows in one table:
//
//     nextflow run main.nf --slides 'slides/*.svs' --calibration calibration.safetensors --out screened
//
// A slide that fails three times is left out of the table, and Nextflow reports the failed task. Slides have to be
// single files, as SVS, NDPI and TIFF are; a task would not see the folder beside an MRXS file.
// Each machine needs `pip install "torchmetrics-rl2[cli,slides]"`, by a container, an environment module or conda.

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
    maxRetries 2

    input:
    path slide
    val name
    path weights
    path calibration

    output:
    path 'screened/*', type: 'dir', emit: folder
    path 'slides.csv', emit: row

    script:
    // Nextflow escapes the names of files by itself, so they need no quotes.
    def good = calibration ? "--calibration ${calibration}" : ''
    """
    export TORCHMETRICS_RL2_HOME=\$PWD/${weights} TORCHMETRICS_RL2_OFFLINE=1 OMP_NUM_THREADS=${task.cpus}
    rl2 screen ${slide} -o screened --weights '${name}' ${good} --workers ${task.cpus}
    mv screened/slides.csv slides.csv
    """
}

workflow {
    WEIGHTS(params.weights)
    def good = params.calibration ? file(params.calibration, checkIfExists: true) : []
    SCREEN(channel.fromPath(params.slides, checkIfExists: true), params.weights, WEIGHTS.out, good)
    SCREEN.out.row.collectFile(name: 'slides.csv', keepHeader: true, storeDir: params.out)
}
